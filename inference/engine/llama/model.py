"""A loaded model in this process: `engine.model.Model` over llama.cpp.

Bound to llama-cpp-python's low-level functions (llama.h). Not thread-safe, except the vocabulary,
`constraint` and `vision.encode`. Knows no requests.
"""

import ctypes
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as lib
import numpy as np

from inference.engine.constraint import GrammarConstraint, Grammars
from inference.engine.llama import adapters, backend, opening, threads
from inference.engine.llama.embedder import LlamaEmbedder, is_embedding_model
from inference.engine.llama.embedding_model import LlamaEmbeddingModel
from inference.engine.llama.grammar_tokenizer import grammar_tokenizer
from inference.engine.llama.memory_batch import TokenBatch
from inference.engine.llama.sampling import ChainSampler, build_sampler
from inference.engine.llama.vision import LlamaVision
from inference.engine.llama.vocabulary import LlamaVocabulary
from inference.engine.model import Chunk, DecodeError, Logits
from inference.engine.runner_messages import OpenModel
from inference.messages import Sampling

logger = logging.getLogger(__name__)

_WARM_UP_TOKENS: Final = 32  # enough for ggml to choose its matrix kernels
_TIMED_STEPS: Final = 4


def open_model(request: OpenModel) -> "LlamaModel | LlamaEmbeddingModel":
    """Load a file. Raises LoadError."""
    backend.start_backend()
    backend.take_sizes()
    handle = opening.load_weights(request)
    if is_embedding_model(handle):
        return LlamaEmbeddingModel(request, handle)
    return LlamaModel(request, handle)


class LlamaModel(LlamaVocabulary):
    """A model and its context. See `Model`."""

    def __init__(self, request: OpenModel, handle: Any) -> None:
        """Take over loaded weights. Raises LoadError."""
        self.handle = handle
        self._adapters = adapters.load_adapters(self.handle, request.adapters)
        self._context = opening.new_context(self.handle, request)
        adapters.apply(self._context, self._adapters)
        sizes = opening.allocated(backend.take_sizes())
        super().__init__(self.handle, window_tokens=int(lib.llama_n_ctx_seq(self._context)))
        self._memory = lib.llama_get_memory(self._context)
        self.batch_tokens = int(lib.llama_n_batch(self._context))
        self.size_bytes = sizes.total
        self.size_vram_bytes = sizes.gpu
        self.can_shift = bool(lib.llama_memory_can_shift(self._memory))
        self._grammars = Grammars(lambda: grammar_tokenizer(self.vocab))
        self._batch = TokenBatch(self.batch_tokens)
        self._parallel = request.parallel
        self._options = request.options
        self._warm_up()
        self.threads = self._choose_threads(request)
        self.vision = self._load_vision(request)
        self.size_bytes += sum(adapter.size_bytes for adapter in self._adapters)

    def sampler(self, sampling: Sampling, seed: int) -> ChainSampler:
        """See `Model`."""
        return build_sampler(sampling, seed, n_vocab=self.n_vocab, window=self.window_tokens)

    def new_embedder(self) -> LlamaEmbedder:
        """Return a context for embedding over the same weights. Raises LoadError."""
        backend.take_sizes()
        embedder = LlamaEmbedder(self.handle, self._options, threads=self.threads)
        sizes = opening.allocated(backend.take_sizes())
        self.size_bytes += sizes.total
        self.size_vram_bytes += sizes.gpu
        return embedder

    def constraint(self, json_schema: str) -> GrammarConstraint:
        """See `Model`."""
        return self._grammars.constraint(json_schema)

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        """See `Model`."""
        rows = self._batch.fill(chunks)
        status = lib.llama_decode(self._context, self._batch.native)
        if status != 0:
            raise DecodeError(f"llama_decode returned {status}: {backend.last_error()}")
        return rows

    def decode_image(self, sequence: int, start: int, image: Any) -> None:
        """See `Model`."""
        if self.vision is None:
            raise DecodeError("the model cannot see")
        self.vision.decode(self._context, sequence, start, image)

    def logits(self, row: int) -> Logits:
        """See `Model`."""
        pointer = lib.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self.n_vocab,))

    def forget(self, sequence: int) -> None:
        """See `Model`."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def keep(self, sequence: int, positions: int) -> bool:
        """See `Model`."""
        if lib.llama_memory_seq_rm(self._memory, sequence, positions, -1):
            return True
        self.forget(sequence)
        return False

    def shift(self, sequence: int, keep: int, drop: int) -> None:
        """See `Model`."""
        lib.llama_memory_seq_rm(self._memory, sequence, keep, keep + drop)
        lib.llama_memory_seq_add(self._memory, sequence, keep + drop, -1, -drop)

    def save(self, sequence: int) -> bytes:
        """See `Model`."""
        size = int(lib.llama_state_seq_get_size(self._context, sequence))
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self._context, buffer, size, sequence))
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """See `Model`."""
        self.forget(sequence)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if lib.llama_state_seq_set_data(self._context, buffer, len(state), sequence):
            return True
        self.forget(sequence)
        return False

    def close(self) -> None:
        """See `Model`."""
        if self.vision is not None:
            self.vision.close()
        lib.llama_free(self._context)
        lib.llama_model_free(self.handle)

    def _load_vision(self, request: OpenModel) -> LlamaVision | None:
        if not request.projector:
            return None
        vision = LlamaVision(
            request.projector,
            self.handle,
            threads=self.threads,
            batch_tokens=self.batch_tokens,
            window_tokens=self.window_tokens,
            uses_gpu=bool(lib.llama_supports_gpu_offload()) and request.options.num_gpu != 0,
        )
        self.size_bytes += vision.size_bytes
        return vision

    def _warm_up(self) -> None:
        """Compute a prompt and a token: a CPU that faults does so now, not in a request."""
        prompt = [0] * min(_WARM_UP_TOKENS, self.batch_tokens)
        self.decode([Chunk(0, 0, prompt, wants_logits=True)])
        self.decode([Chunk(0, len(prompt), [0], wants_logits=True)])
        self.forget(0)

    def _choose_threads(self, request: OpenModel) -> int:
        """Return the thread count in use; measured where nobody has named one."""
        named = request.options.num_thread or request.threads
        if named:
            return named
        count = threads.fastest(request.most_threads, self._seconds_with)
        logger.info("%d of %d threads are fastest", count, request.most_threads)
        self._use_threads(count)
        return count

    def _seconds_with(self, count: int) -> float:
        """Return the seconds that a step with one token of every sequence takes."""
        self._use_threads(count)
        times = []
        for position in range(_TIMED_STEPS):
            chunks = [Chunk(s, position, [0], wants_logits=True) for s in range(self._parallel)]
            begun = time.perf_counter()
            self.decode(chunks)
            times.append(time.perf_counter() - begun)
        for sequence in range(self._parallel):
            self.forget(sequence)
        return min(times)

    def _use_threads(self, count: int) -> None:
        lib.llama_set_n_threads(self._context, count, count)
