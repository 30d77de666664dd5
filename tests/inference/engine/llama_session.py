"""A text model and its context on llama.cpp's own functions, for tests of what goes beside them."""

from collections.abc import Sequence
from pathlib import Path

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from inference.engine.llama import backend
from inference.engine.llama.memory_batch import TokenBatch
from inference.engine.model import Chunk

WINDOW_TOKENS = 512
BATCH_TOKENS = 128


class LlamaSession:
    """An open model with two sequences, computed by one thread."""

    def __init__(self, path: Path) -> None:
        backend.start_backend()
        self.model = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = 2 * WINDOW_TOKENS, 2, False
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_threads = params.n_threads_batch = 1
        self.context = lib.llama_init_from_model(self.model, params)
        self._n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self._batch = TokenBatch(BATCH_TOKENS)

    def logits_after(
        self, tokens: Sequence[int], start: int = 0, sequence: int = 0
    ) -> npt.NDArray[np.float32]:
        """Decode tokens and return a copy of the last one's logits."""
        rows = self._batch.fill([Chunk(sequence, start, tokens, wants_logits=True)])
        assert lib.llama_decode(self.context, self._batch.native) == 0
        pointer = lib.llama_get_logits_ith(self.context, rows[0])
        return np.ctypeslib.as_array(pointer, (self._n_vocab,)).copy()

    def last_position(self, sequence: int = 0) -> int:
        """Return the greatest position in the KV cache; -1: it is empty."""
        memory = lib.llama_get_memory(self.context)
        return int(lib.llama_memory_seq_pos_max(memory, sequence))

    def forget(self, sequence: int = 0) -> None:
        """Empty a sequence."""
        lib.llama_memory_seq_rm(lib.llama_get_memory(self.context), sequence, -1, -1)

    def close(self) -> None:
        """Free the context and the model."""
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)
