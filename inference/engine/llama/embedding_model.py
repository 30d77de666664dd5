"""A model that is made for embedding: weights and an embedder, no context that generates."""

from typing import Any

import llama_cpp.llama_cpp as lib

from inference.engine.llama import backend, opening
from inference.engine.llama.embedder import LlamaEmbedder
from inference.engine.runner_messages import OpenModel


class LlamaEmbeddingModel:
    """Weights that only an embedder uses."""

    def __init__(self, request: OpenModel, handle: Any) -> None:
        """Take over loaded weights. Raises LoadError."""
        self.handle = handle
        self.threads = request.options.num_thread or request.threads or request.most_threads
        self.embedder = LlamaEmbedder(handle, request.options, threads=self.threads)
        sizes = opening.allocated(backend.take_sizes())
        self.size_bytes = sizes.total
        self.size_vram_bytes = sizes.gpu
        self.window_tokens = self.embedder.window_tokens

    def close(self) -> None:
        """Free it."""
        self.embedder.close()
        lib.llama_model_free(self.handle)
