"""Tiny GGUF models for tests: random weights, a real vocabulary, loadable by llama.cpp.

Written with the `gguf` package, so our own reader is tested against foreign files. Knows
nothing of the site.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

EMBEDDING_LENGTH: Final = 64
LAYERS: Final = 2
HEADS: Final = 4
KV_HEADS: Final = 2

_CONTROL: Final = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_WORDS: Final = (
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()[]{}-_+*/=<>|\n▁",
    *("▁a", "▁the", "▁of", "▁and", "▁to", "▁in", "▁is", "▁it", "▁you", "▁that", "▁he", "▁was"),
    *("▁hello", "▁world", "▁sky", "▁blue", "▁why", "user", "assistant", "system", "th", "he"),
    *("in", "er", "an", "re", "on", "at", "en", "nd", "ll", "lo", "or", "ou", "is", "it", "es"),
)
BOS_TOKEN: Final = 1
EOS_TOKEN: Final = 2
IM_START_TOKEN: Final = 3
IM_END_TOKEN: Final = 4
FIRST_BYTE_TOKEN: Final = len(_CONTROL)
VOCAB_SIZE: Final = len(_CONTROL) + 256 + len(_WORDS)


# Every message between two tokens, as many small models want it.
CHATML_JINJA: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    chat_template: str | None = None,
    context_length: int = 512,
    pooling: gguf.PoolingType | None = None,
    width: int = EMBEDDING_LENGTH,
    weights: type[np.floating[Any]] = np.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a two-layer llama model of about 0.5 MB and return its path.

    The same arguments give the same bytes; another seed gives other weights. Widths that are
    multiples of 256 and np.float16 weights are for quantizing. `metadata`: more texts in it.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_settings(writer, context_length, width, weights)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value)
    _add_vocabulary(writer)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    _add_weights(writer, np.random.default_rng(seed), width, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_split_model(folder: Path, *, tensors_each: int = 8) -> list[Path]:
    """Write the tiny model in parts of so many tensors and return their paths in order."""
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama", split_max_tensors=tensors_each)
    _add_settings(writer, 512)
    _add_vocabulary(writer)
    _add_weights(writer, np.random.default_rng(0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("tiny-*.gguf"))


def _add_settings(
    writer: gguf.GGUFWriter,
    context_length: int,
    width: int = EMBEDDING_LENGTH,
    weights: type[np.floating[Any]] = np.float32,
) -> None:
    is_half = weights is np.float16
    writer.add_name("Tiny Test")
    writer.add_basename("tiny")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if is_half else gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    types = gguf.TokenType
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*_CONTROL, *byte_tokens, *_WORDS])
    # Longer pieces have better scores, so words win over letters, and letters over bytes.
    writer.add_token_scores(
        [0.0] * len(_CONTROL) + [-1000.0] * 256 + [float(len(word)) - 100 for word in _WORDS]
    )
    writer.add_token_types(
        [types.UNKNOWN]
        + [types.CONTROL] * (len(_CONTROL) - 1)
        + [types.BYTE] * 256
        + [types.NORMAL] * len(_WORDS)
    )
    writer.add_bos_token_id(BOS_TOKEN)
    writer.add_eos_token_id(EOS_TOKEN)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _add_weights(
    writer: gguf.GGUFWriter,
    random: np.random.Generator,
    width: int = EMBEDDING_LENGTH,
    weights: type[np.floating[Any]] = np.float32,
) -> None:
    def add(name: str, *shape: int) -> None:
        scale = 0.5 / np.sqrt(shape[-1])
        writer.add_tensor(name, random.normal(0, scale, shape).astype(weights))

    def add_norm(name: str) -> None:
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    kv_length = width // HEADS * KV_HEADS
    add("token_embd.weight", VOCAB_SIZE, width)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add_norm(f"{block}.attn_norm.weight")
        add(f"{block}.attn_q.weight", width, width)
        add(f"{block}.attn_k.weight", kv_length, width)
        add(f"{block}.attn_v.weight", kv_length, width)
        add(f"{block}.attn_output.weight", width, width)
        add_norm(f"{block}.ffn_norm.weight")
        add(f"{block}.ffn_gate.weight", 2 * width, width)
        add(f"{block}.ffn_up.weight", 2 * width, width)
        add(f"{block}.ffn_down.weight", width, 2 * width)
    add_norm("output_norm.weight")
    add("output.weight", VOCAB_SIZE, width)
