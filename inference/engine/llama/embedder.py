"""Vectors from a loaded model: `engine.embedding.Embedder` over llama.cpp.

Models of the BERT family have no KV cache and see a whole input at once; models that generate read
it from left to right in a context of their own, beside the one that answers. Which of a model's
states become the vector is the file's `pooling_type`; where it names none, or one that yields no
vector (`none`, `rank`), an encoder's mean (for `rank` the first token's state, which its classifier
reads) and a generating model's last state are taken. Knows no requests and no text of users.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from inference.engine.llama import backend, opening
from inference.engine.llama.memory_batch import TokenBatch
from inference.engine.llama.vocabulary import LlamaVocabulary
from inference.engine.model import Chunk, DecodeError, LoadError
from inference.messages import RunnerOptions

Vectors = npt.NDArray[np.float32]

# llama.cpp computes and keeps the logits of every token of a context that embeds.
_LOGITS_BYTES: Final = 128 * 1024 * 1024
_FLOAT_BYTES: Final = 4
_MIN_BATCH_TOKENS: Final = 32
_ENCODER_SEQUENCES: Final = 64
_DECODER_SEQUENCES: Final = 16
_RECURRENT_SEQUENCES: Final = 2  # each has a state of its own, however short the input
_WARM_UP_TOKENS: Final = 32  # enough for ggml to choose its matrix kernels
_POOLINGS: Final = {
    lib.LLAMA_POOLING_TYPE_MEAN,
    lib.LLAMA_POOLING_TYPE_CLS,
    lib.LLAMA_POOLING_TYPE_LAST,
}


def is_embedding_model(model: Any) -> bool:
    """Whether a loaded model is made for embedding and not for generating."""
    return _pooling_named(model) is not None or not _is_causal(model)


class LlamaEmbedder:
    """See `Embedder`. The model must stay loaded until `close`."""

    def __init__(self, model: Any, options: RunnerOptions, *, threads: int) -> None:
        """Make a context for embedding, with its own buffers. Raises LoadError."""
        if lib.llama_model_has_encoder(model) and lib.llama_model_has_decoder(model):
            raise LoadError("this model does not support embeddings")
        trained = int(lib.llama_model_n_ctx_train(model))
        self.window_tokens = min(options.num_ctx, trained) if trained > 0 else options.num_ctx
        self._context = self._open(model, options, threads)
        self._vocabulary = LlamaVocabulary(model, window_tokens=self.window_tokens)
        self.front, self.back = self._frame()
        self._batch = TokenBatch(self.batch_tokens)
        self._parts: list[tuple[int, Vectors]] = []  # tokens and vector of each part so far
        self._extended = 0  # tokens of the long input in the KV cache
        self._warm_up()

    def tokenize(self, text: str) -> list[int]:
        """See `Embedder`. Names of special tokens in the text become these tokens, as in Ollama."""
        return self._vocabulary.tokenize_part(text, parse_special=True)

    def has_token(self, token: int) -> bool:
        """See `Embedder`."""
        return self._vocabulary.has_token(token)

    def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """See `Embedder`."""
        chunks = [
            Chunk(sequence, 0, tokens, wants_logits=True, wants_all_logits=True)
            for sequence, tokens in enumerate(inputs)
        ]
        try:
            self._compute(chunks)
            return np.stack([self._vector(chunk.sequence) for chunk in chunks])
        finally:
            for chunk in chunks:
                self._forget(chunk.sequence)

    def extend(self, tokens: Sequence[int], *, is_last: bool) -> Vectors | None:
        """See `Embedder`."""
        sequence = self.max_sequences
        chunk = Chunk(sequence, self._extended, tokens, wants_logits=True, wants_all_logits=True)
        try:
            self._compute([chunk])
        except DecodeError:
            self.abandon()
            raise
        self._extended += len(tokens)
        self._parts.append((len(tokens), self._vector(sequence)))
        if not is_last:
            return None
        vector = self._joined()
        self.abandon()
        return vector

    def abandon(self) -> None:
        """See `Embedder`."""
        self._parts.clear()
        self._extended = 0
        self._forget(self.max_sequences)

    def close(self) -> None:
        """See `Embedder`. A second call does nothing."""
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None

    # ------------------------------------------------------------ making the context

    def _open(self, model: Any, options: RunnerOptions, threads: int) -> Any:
        """Return a context, and set what depends on its kind."""
        sees_all = not _is_causal(model)
        context = self._new_context(model, options, threads, sees_all=sees_all)
        self._memory = lib.llama_get_memory(context)
        if not self._memory and not sees_all:
            # An encoder whose file does not say so: it needs room for a whole input at once.
            lib.llama_free(context)
            context = self._new_context(model, options, threads, sees_all=True)
        is_encoder = not self._memory or lib.llama_model_has_encoder(model)
        self._run = lib.llama_encode if is_encoder else lib.llama_decode
        self._width = int(lib.llama_model_n_embd_out(model))
        self._pooling = int(lib.llama_pooling_type(context))
        return context

    def _new_context(
        self, model: Any, options: RunnerOptions, threads: int, *, sees_all: bool
    ) -> Any:
        sequences = _sequences(model, sees_all=sees_all)
        self.max_sequences = sequences if sees_all else sequences - 1  # one for the long input
        # llama.cpp reserves a batch that all sequences share equally; pooling aborts on a rest.
        tokens = _batch_tokens(model, options, self.window_tokens, sees_all=sees_all)
        self.batch_tokens = -(-tokens // sequences) * sequences
        params = opening.context_params(options, threads)
        # All sequences share the cells: those of a batch are forgotten after it, and beside them
        # there is one long input at most.
        params.kv_unified = True
        params.n_ctx = self.batch_tokens if sees_all else self.window_tokens + self.batch_tokens
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = self.batch_tokens
        params.embeddings = True
        params.pooling_type = _pooling(model, sees_all=sees_all)
        context = lib.llama_init_from_model(model, params)
        if not context:
            reason = backend.last_error() or "unknown reason"
            raise LoadError(f"no memory for a context for embedding: {reason}")
        return context

    def _frame(self) -> tuple[list[int], list[int]]:
        """Return the special tokens that the tokenizer puts around a text."""
        around = self._vocabulary.tokenize("")
        vocab = self._vocabulary.vocab
        ends = {int(lib.llama_vocab_eos(vocab)), int(lib.llama_vocab_sep(vocab))}
        is_only_bos = len(around) == 1 and self._vocabulary.adds_bos()
        if around and around[-1] in ends and not is_only_bos:
            return around[:-1], around[-1:]
        return around, []

    def _warm_up(self) -> None:
        """Compute something: a CPU that faults does so now, not in a request."""
        self.encode([[0] * min(_WARM_UP_TOKENS, self.window_tokens, self.batch_tokens)])

    # ------------------------------------------------------------ computing

    def _compute(self, chunks: Sequence[Chunk]) -> None:
        self._batch.fill(chunks)
        status = self._run(self._context, self._batch.native)
        if status != 0:
            raise DecodeError(f"llama.cpp returned {status}: {backend.last_error()}")

    def _vector(self, sequence: int) -> Vectors:
        pointer = lib.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise DecodeError("llama.cpp has no vector for an input")
        found: Vectors = np.ctypeslib.as_array(pointer, shape=(self._width,)).copy()
        return found

    def _joined(self) -> Vectors:
        """Return the vector of the long input: what pooling over all its parts yields."""
        if self._pooling == lib.LLAMA_POOLING_TYPE_MEAN:
            total = sum(count for count, _ in self._parts)
            parts = (vector * np.float32(count / total) for count, vector in self._parts)
            mean: Vectors = np.sum(list(parts), axis=0, dtype=np.float32)
            return mean
        is_first = self._pooling == lib.LLAMA_POOLING_TYPE_CLS
        return self._parts[0 if is_first else -1][1]

    def _forget(self, sequence: int) -> None:
        if self._memory:
            lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)


def _sequences(model: Any, *, sees_all: bool) -> int:
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        return _RECURRENT_SEQUENCES
    return _ENCODER_SEQUENCES if sees_all else _DECODER_SEQUENCES


def _batch_tokens(model: Any, options: RunnerOptions, window: int, *, sees_all: bool) -> int:
    if sees_all:
        return max(window, options.num_batch)
    n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)))
    affordable = _LOGITS_BYTES // (_FLOAT_BYTES * max(1, n_vocab))
    return max(_MIN_BATCH_TOKENS, min(options.num_batch, affordable))


def _pooling(model: Any, *, sees_all: bool) -> int:
    named = _pooling_named(model)
    if named in _POOLINGS:
        return int(named)
    if not sees_all:
        return int(lib.LLAMA_POOLING_TYPE_LAST)
    is_ranker = named == lib.LLAMA_POOLING_TYPE_RANK
    return int(lib.LLAMA_POOLING_TYPE_CLS if is_ranker else lib.LLAMA_POOLING_TYPE_MEAN)


def _pooling_named(model: Any) -> int | None:
    text = _metadata(model, f"{_metadata(model, 'general.architecture')}.pooling_type")
    return int(text) if text.isdecimal() else None


def _is_causal(model: Any) -> bool:
    key = f"{_metadata(model, 'general.architecture')}.attention.causal"
    return _metadata(model, key) != "false"


def _metadata(model: Any, key: str) -> str:
    """Return a value of the file's metadata as text; empty where there is none."""
    buffer = ctypes.create_string_buffer(256)
    length = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else ""
