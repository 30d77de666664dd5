"""llama.cpp behind a small interface. The only module that imports llama_cpp.

Bound to llama-cpp-python's low-level functions (llama.h); tokens are ints, pieces are bytes,
positions count from 0 in each sequence. Knows no sockets, requests or templates. Not thread-safe:
one runner process, one thread.
"""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import llama_cpp.llama_cpp as lib
import numpy as np

from inference.messages import OpenModel, Sampling

logger = logging.getLogger(__name__)

MIN_WINDOW_TOKENS: Final = 256  # llama.cpp rounds smaller windows up (contract 11, 6.4)
_F16_BYTES: Final = 2
_WARM_UP_TOKENS: Final = 32  # enough for ggml to choose its matrix kernels
_LOG_LEVELS: Final = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}


class LoadError(Exception):
    """llama.cpp refused the file or could not get the memory for it."""


class DecodeError(Exception):
    """`llama_decode` failed; the sequences of that batch are lost."""


class Sampler(Protocol):
    """Chooses the next token of one sequence and remembers what it chose."""

    def close(self) -> None:
        """Free it. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence in a batch; `wants_logits` is for the last of them."""

    sequence: int
    start: int  # position of the first token
    tokens: Sequence[int]
    wants_logits: bool


class Model(Protocol):
    """What the batch loop needs of a loaded model; tests have one without llama.cpp."""

    window_tokens: int  # context length of one sequence
    batch_tokens: int  # the most tokens of one `decode`
    size_bytes: int
    size_vram_bytes: int

    def tokenize(self, text: str) -> list[int]:
        """Return a prompt's tokens: special ones parsed, BOS added where the model wants it."""

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones included. Raises ValueError for unknown ids."""

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; control tokens have none."""

    def is_end(self, token: int) -> bool:
        """Whether generation ends with this token."""

    def adds_bos(self) -> bool:
        """Whether `tokenize` puts a BOS in front."""

    def sampler(self, sampling: Sampling, seed: int) -> Sampler:
        """Return a new sampler."""

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        """Compute the chunks; return for each the row of its logits. Raises DecodeError."""

    def sample(self, sampler: Any, row: int) -> int:
        """Choose a token from a row of the last `decode`."""

    def forget(self, sequence: int) -> None:
        """Drop a sequence from the KV cache."""

    def close(self) -> None:
        """Free the model."""


class _ChainSampler:
    """A llama.cpp sampler chain."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for part in parts:
            lib.llama_sampler_chain_add(self.chain, part)

    def close(self) -> None:
        """Free the chain with its parts."""
        if self.chain is not None:
            lib.llama_sampler_free(self.chain)
            self.chain = None


class _Batch:
    """A reusable `llama_batch` over numpy memory, so that filling it is a few slice copies."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, dtype=np.int32)
        self._pos = np.zeros(capacity, dtype=np.int32)
        self._sequence = np.zeros(capacity, dtype=np.int32)
        self._count = np.ones(capacity, dtype=np.int32)
        self._wants = np.zeros(capacity, dtype=np.int8)
        pointer = ctypes.POINTER(ctypes.c_int32)
        base, step = self._sequence.ctypes.data, self._sequence.itemsize
        self._sequence_rows = (pointer * capacity)(
            *(ctypes.cast(base + step * i, pointer) for i in range(capacity))
        )
        self.native = lib.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(pointer),
            embd=None,
            pos=self._pos.ctypes.data_as(pointer),
            n_seq_id=self._count.ctypes.data_as(pointer),
            seq_id=self._sequence_rows,
            logits=self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, chunks: Sequence[Chunk]) -> list[int]:
        """Put the chunks in and return the index of each one's last token."""
        end = 0
        rows = []
        for chunk in chunks:
            begin, end = end, end + len(chunk.tokens)
            self._token[begin:end] = chunk.tokens
            self._pos[begin:end] = np.arange(chunk.start, chunk.start + len(chunk.tokens))
            self._sequence[begin:end] = chunk.sequence
            self._wants[begin:end] = 0
            self._wants[end - 1] = chunk.wants_logits
            rows.append(end - 1)
        self.native.n_tokens = end
        return rows


class LlamaModel:
    """A model and its context in this process. See `Model`."""

    def __init__(self, request: OpenModel) -> None:
        """Load the file. Raises LoadError."""
        _start_backend()
        self._model = lib.llama_model_load_from_file(request.path.encode(), _model_params(request))
        if not self._model:
            raise LoadError(f"llama.cpp cannot load the model: {_last_error() or 'unknown reason'}")
        self._vocab = lib.llama_model_get_vocab(self._model)
        window = self._window(request)
        self._context = lib.llama_init_from_model(self._model, _context_params(request, window))
        if not self._context:
            raise LoadError(
                f"no memory for {request.parallel} × {window} tokens of context: "
                f"{_last_error() or 'unknown reason'}"
            )
        self._memory = lib.llama_get_memory(self._context)
        self.window_tokens = int(lib.llama_n_ctx_seq(self._context))
        self.batch_tokens = int(lib.llama_n_batch(self._context))
        self.size_bytes = self._size_bytes()
        self.size_vram_bytes = self.size_bytes if lib.llama_supports_gpu_offload() else 0
        self._n_vocab = int(lib.llama_vocab_n_tokens(self._vocab))
        self._batch = _Batch(self.batch_tokens)
        self._pieces: dict[int, bytes] = {}
        self._warm_up()

    def tokenize(self, text: str) -> list[int]:
        """See `Model`."""
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 8
        tokens = (lib.llama_token * capacity)()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, capacity, True, True)  # noqa: FBT003
        if count < 0:
            raise ValueError("the text cannot be tokenized")
        found = tokens[:count]
        # A template may write the BOS that the tokenizer adds as well.
        bos = lib.llama_vocab_bos(self._vocab)
        if self.adds_bos() and found[:2] == [bos, bos]:
            del found[0]
        return found

    def detokenize(self, tokens: Sequence[int]) -> str:
        """See `Model`."""
        if any(not 0 <= token < self._n_vocab for token in tokens):
            raise ValueError("a token id is outside the vocabulary")
        return b"".join(self._piece(token, special=True) for token in tokens).decode(
            "utf-8", "replace"
        )

    def piece(self, token: int) -> bytes:
        """See `Model`."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._piece(token, special=False)
        return known

    def is_end(self, token: int) -> bool:
        """See `Model`."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def adds_bos(self) -> bool:
        """See `Model`."""
        return bool(lib.llama_vocab_get_add_bos(self._vocab))

    def sampler(self, sampling: Sampling, seed: int) -> _ChainSampler:
        """See `Model`. The order of the chain is llama.cpp's own default order."""
        parts = []
        if _has_penalties(sampling):
            last_n = self.window_tokens if sampling.repeat_last_n < 0 else sampling.repeat_last_n
            parts.append(
                lib.llama_sampler_init_penalties(
                    self._n_vocab,
                    last_n,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        if sampling.temperature <= 0:
            return _ChainSampler([*parts, lib.llama_sampler_init_greedy()])
        parts += [
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_typical(sampling.typical_p, 1),
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(seed),
        ]
        return _ChainSampler(parts)

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        """See `Model`."""
        rows = self._batch.fill(chunks)
        status = lib.llama_decode(self._context, self._batch.native)
        if status != 0:
            raise DecodeError(f"llama_decode returned {status}: {_last_error()}")
        return rows

    def sample(self, sampler: _ChainSampler, row: int) -> int:
        """See `Model`."""
        return int(lib.llama_sampler_sample(sampler.chain, self._context, row))

    def forget(self, sequence: int) -> None:
        """See `Model`."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """See `Model`."""
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def _window(self, request: OpenModel) -> int:
        trained = int(lib.llama_model_n_ctx_train(self._model))
        wanted = max(MIN_WINDOW_TOKENS, request.options.num_ctx)
        if wanted > trained > 0:
            logger.warning("num_ctx %d is cut to the model's %d", wanted, trained)
            return trained
        return wanted

    def _warm_up(self) -> None:
        """Compute a prompt and a token: a CPU that faults does so now, not in a request."""
        prompt = [0] * min(_WARM_UP_TOKENS, self.batch_tokens)
        self.decode([Chunk(0, 0, prompt, wants_logits=True)])
        self.decode([Chunk(0, len(prompt), [0], wants_logits=True)])
        self.forget(0)

    def _piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        count = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]

    def _size_bytes(self) -> int:
        model = self._model
        heads = max(1, int(lib.llama_model_n_head(model)))
        kv_width = (
            int(lib.llama_model_n_embd(model)) // heads * int(lib.llama_model_n_head_kv(model))
        )
        layers = int(lib.llama_model_n_layer(model))
        cache = int(lib.llama_n_ctx(self._context)) * layers * kv_width * 2 * _F16_BYTES
        return int(lib.llama_model_size(model)) + cache


def _has_penalties(sampling: Sampling) -> bool:
    return sampling.repeat_last_n != 0 and (
        sampling.repeat_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )


def _model_params(request: OpenModel) -> Any:
    params = lib.llama_model_default_params()
    options = request.options
    if options.num_gpu is not None:
        params.n_gpu_layers = options.num_gpu
    if options.main_gpu is not None:
        params.main_gpu = options.main_gpu
    if options.use_mmap is not None:
        params.load_mode = (
            lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        )
    params.use_extra_bufts = request.use_extra_buffers
    return params


def _context_params(request: OpenModel, window: int) -> Any:
    params = lib.llama_context_default_params()
    # One stream of KV cells for each sequence: a sequence's attention does not see the others'.
    params.n_ctx = window * request.parallel
    params.n_seq_max = request.parallel
    params.kv_unified = False
    params.n_batch = max(request.options.num_batch, request.parallel)
    params.n_ubatch = params.n_batch
    params.n_threads = request.options.num_thread or request.threads
    params.n_threads_batch = params.n_threads
    return params


class _Log:
    """Keeps llama.cpp's log callback alive and remembers its last error."""

    def __init__(self) -> None:
        self.last_error = ""
        self._callback = lib.llama_log_callback(self._on_line)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        lib.llama_backend_init()

    def _on_line(self, level: int, text: bytes, _data: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if not line:
            return
        if level >= 4:  # noqa: PLR2004 - GGML_LOG_LEVEL_ERROR
            self.last_error = line
        logger.log(_LOG_LEVELS.get(level, logging.DEBUG), "%s", line)


_logs: list[_Log] = []


def _start_backend() -> None:
    if not _logs:
        _logs.append(_Log())


def _last_error() -> str:
    return _logs[0].last_error if _logs else ""
