"""Tiny projectors, text models that go with them, and LoRA adapters: random weights.

They see nothing, but llama.cpp loads and runs them through the same code as real ones. Written
with the `gguf` package. Knows nothing of the site.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests import gguf_files
from tests.gguf_files import EMBEDDING_LENGTH, HEADS, KV_HEADS, LAYERS, VOCAB_SIZE

IMAGE_SIDE: Final = 32  # pixels that a projector looks at
PATCH_SIDE: Final = 8
PATCHES: Final = (IMAGE_SIDE // PATCH_SIDE) ** 2
_WIDTH: Final = 32  # of the vision tower
_FEED_FORWARD: Final = 64
_TOWER_LAYERS: Final = 2
_MERGE: Final = 2  # patches a side that become one token, where a projector merges
# Words at the end of the vocabulary that become control tokens in models that need these names.
SLICE_TOKENS: Final = ("<fake_token_around_image>", "<global-img>", "\n\n")
_SAVING: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
}
SPAN_TOKENS: Final = ("<|vision_start|>", "<|vision_end|>")


def write_image(
    kind: str, *, seed: int = 0, size: tuple[int, int] = (IMAGE_SIDE, IMAGE_SIDE)
) -> bytes:
    """Return a file of kind PNG, JPEG, WEBP or GIF: coloured squares, the same for a seed.

    Squares and lossless modes, so that all kinds show nearly the same picture.
    """
    random = np.random.default_rng(seed)
    squares = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    picture = squares.resize(size, Image.Resampling.NEAREST)
    options = _SAVING.get(kind, {})
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_animation(kind: str, *, seeds: Sequence[int] = (0, 1)) -> bytes:
    """Return an animated GIF, WEBP or PNG whose frames are `write_image`'s pictures."""
    frames = [Image.open(io.BytesIO(write_image("PNG", seed=seed))) for seed in seeds]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


def write_projector(
    path: Path, kind: str = "mlp", *, seed: int = 0, width: int = EMBEDDING_LENGTH
) -> Path:
    """Write a projector for text models of that embedding width and return its path.

    Kinds: mlp (LLaVA: one run of tokens), gemma3 (the same, attended in both directions), idefics3
    (several slices with text between them), qwen2vl_merger (any size, two-dimensional positions).
    """
    writer = gguf.GGUFWriter(path, "clip")
    weights = _Weights(writer, seed)
    _add_tower_settings(writer, kind, width)
    _add_tower(weights, has_class_token=kind == "mlp")
    _PROJECTORS[kind](writer, weights, width)
    return _write(writer, path)


def write_text_model(
    path: Path,
    *,
    architecture: str = "llama",
    renamed: Sequence[str] = (),
    context_length: int = 512,
) -> Path:
    """Write a text model like `gguf_files.write_tiny_model`'s and return its path.

    Architectures: llama, and qwen2vl with its positions in sections. `renamed` are control tokens
    that take the place of the vocabulary's last words.
    """
    writer = gguf.GGUFWriter(path, architecture)
    gguf_files._add_settings(writer, context_length)
    gguf_files._add_vocabulary(writer)
    _rename_last_tokens(writer, renamed)
    gguf_files._add_weights(writer, np.random.default_rng(0))
    if architecture == "qwen2vl":
        pairs = EMBEDDING_LENGTH // HEADS // 2
        writer.add_rope_dimension_sections([pairs // 2, pairs // 4, pairs // 4, 0])
        kv_width = EMBEDDING_LENGTH // HEADS * KV_HEADS
        for layer in range(LAYERS):
            for name, size in (("q", EMBEDDING_LENGTH), ("k", kv_width), ("v", kv_width)):
                bias = np.zeros(size, dtype=np.float32)
                writer.add_tensor(f"blk.{layer}.attn_{name}.bias", bias)
    return _write(writer, path)


def write_adapter(
    path: Path, *, seed: int = 0, width: int = EMBEDDING_LENGTH, architecture: str = "llama"
) -> Path:
    """Write a LoRA adapter of rank 4 for the queries of every layer and return its path."""
    rank = 4
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    for layer in range(LAYERS):
        name = f"blk.{layer}.attn_q.weight"
        for part, shape in (("lora_a", (rank, width)), ("lora_b", (width, rank))):
            writer.add_tensor(f"{name}.{part}", random.normal(0, 1, shape).astype(np.float32))
    return _write(writer, path)


class _Weights:
    """Adds random tensors to a file."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def add(self, name: str, *shape: int, bias: bool = False) -> None:
        """Add weights of a shape (outputs, inputs, …), and a bias for the outputs."""
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        self._add(f"{name}.weight", self._random.normal(0, scale, shape))
        if bias:
            self._add(f"{name}.bias", self._random.normal(0, 0.1, shape[:1]))

    def add_norm(self, name: str, *, bias: bool = True) -> None:
        """Add a norm over the tower's width that changes nothing."""
        self._add(f"{name}.weight", np.ones(_WIDTH))
        if bias:
            self._add(f"{name}.bias", np.zeros(_WIDTH))

    def add_vector(self, name: str) -> None:
        """Add a vector of the tower's width."""
        self._add(name, self._random.normal(0, 1, _WIDTH))

    def _add(self, name: str, values: npt.NDArray[np.float64]) -> None:
        self._writer.add_tensor(name, values.astype(np.float32))


def _add_tower_settings(writer: gguf.GGUFWriter, kind: str, width: int) -> None:
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(kind)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vision_image_size(IMAGE_SIDE)
    writer.add_vision_patch_size(PATCH_SIDE)
    writer.add_vision_embedding_length(_WIDTH)
    writer.add_vision_feed_forward_length(_FEED_FORWARD)
    writer.add_vision_projection_dim(width)
    writer.add_vision_block_count(_TOWER_LAYERS)
    writer.add_vision_head_count(2)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)


def _add_tower(weights: _Weights, *, has_class_token: bool) -> None:
    weights.add("v.patch_embd", _WIDTH, 3, PATCH_SIDE, PATCH_SIDE)
    weights.add("v.position_embd", PATCHES + has_class_token, _WIDTH)
    if has_class_token:
        weights.add_vector("v.class_embd")
        weights.add_norm("v.pre_ln")
    for layer in range(_TOWER_LAYERS):
        block = f"v.blk.{layer}"
        weights.add_norm(f"{block}.ln1")
        weights.add_norm(f"{block}.ln2")
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            weights.add(f"{block}.{part}", _WIDTH, _WIDTH, bias=True)
        weights.add(f"{block}.ffn_up", _FEED_FORWARD, _WIDTH, bias=True)
        weights.add(f"{block}.ffn_down", _WIDTH, _FEED_FORWARD, bias=True)
    weights.add_norm("v.post_ln")


def _add_llava(_writer: gguf.GGUFWriter, weights: _Weights, width: int) -> None:
    weights.add("mm.0", width, _WIDTH, bias=True)
    weights.add("mm.2", width, width, bias=True)


def _add_gemma(writer: gguf.GGUFWriter, weights: _Weights, width: int) -> None:
    writer.add_vision_projector_scale_factor(_MERGE)
    weights.add("mm.input_projection", _WIDTH, width)
    weights.add_norm("mm.soft_emb_norm", bias=False)


def _add_idefics(writer: gguf.GGUFWriter, weights: _Weights, width: int) -> None:
    writer.add_vision_projector_scale_factor(_MERGE)
    writer.add_vision_preproc_image_size(4 * IMAGE_SIDE)
    weights.add("mm.model.fc", width, _WIDTH * _MERGE**2)


def _add_qwen(writer: gguf.GGUFWriter, weights: _Weights, width: int) -> None:
    writer.add_vision_spatial_merge_size(_MERGE)
    weights._add("v.patch_embd.weight.1", np.zeros((_WIDTH, 3, PATCH_SIDE, PATCH_SIDE)))
    weights.add("mm.0", _WIDTH * 4, _WIDTH * 4, bias=True)
    weights.add("mm.2", width, _WIDTH * 4, bias=True)


_PROJECTORS: Final = {
    "mlp": _add_llava,
    "gemma3": _add_gemma,
    "idefics3": _add_idefics,
    "qwen2vl_merger": _add_qwen,
}


def _rename_last_tokens(writer: gguf.GGUFWriter, names: Sequence[str]) -> None:
    settings = writer.kv_data[0]
    for place, name in enumerate(names, VOCAB_SIZE - len(names)):
        settings[gguf.Keys.Tokenizer.LIST].value[place] = name
        settings[gguf.Keys.Tokenizer.TOKEN_TYPE].value[place] = gguf.TokenType.CONTROL


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
