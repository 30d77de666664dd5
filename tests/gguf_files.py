"""Tiny GGUF models for tests: random weights, a real vocabulary, loadable by llama.cpp.

Written with the `gguf` package, so our own reader is tested against foreign files. Knows
nothing of the site.
"""

from pathlib import Path
from typing import Final

import gguf
import numpy as np

EMBEDDING_LENGTH: Final = 64
LAYERS: Final = 2
HEADS: Final = 4
KV_HEADS: Final = 2
FEED_FORWARD_LENGTH: Final = 128

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


def write_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    chat_template: str | None = None,
    context_length: int = 512,
    pooling: gguf.PoolingType | None = None,
) -> Path:
    """Write a two-layer llama model of about 0.5 MB and return its path.

    The same arguments give the same bytes; another seed gives other weights.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_settings(writer, context_length)
    _add_vocabulary(writer)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    _add_weights(writer, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_settings(writer: gguf.GGUFWriter, context_length: int) -> None:
    writer.add_name("Tiny Test")
    writer.add_basename("tiny")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_context_length(context_length)
    writer.add_embedding_length(EMBEDDING_LENGTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD_LENGTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(EMBEDDING_LENGTH // HEADS)
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


def _add_weights(writer: gguf.GGUFWriter, random: np.random.Generator) -> None:
    def add(name: str, *shape: int) -> None:
        scale = 0.5 / np.sqrt(shape[-1])
        writer.add_tensor(name, random.normal(0, scale, shape).astype(np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(name, np.ones(EMBEDDING_LENGTH, dtype=np.float32))

    kv_length = EMBEDDING_LENGTH // HEADS * KV_HEADS
    add("token_embd.weight", VOCAB_SIZE, EMBEDDING_LENGTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add_norm(f"{block}.attn_norm.weight")
        add(f"{block}.attn_q.weight", EMBEDDING_LENGTH, EMBEDDING_LENGTH)
        add(f"{block}.attn_k.weight", kv_length, EMBEDDING_LENGTH)
        add(f"{block}.attn_v.weight", kv_length, EMBEDDING_LENGTH)
        add(f"{block}.attn_output.weight", EMBEDDING_LENGTH, EMBEDDING_LENGTH)
        add_norm(f"{block}.ffn_norm.weight")
        add(f"{block}.ffn_gate.weight", FEED_FORWARD_LENGTH, EMBEDDING_LENGTH)
        add(f"{block}.ffn_up.weight", FEED_FORWARD_LENGTH, EMBEDDING_LENGTH)
        add(f"{block}.ffn_down.weight", EMBEDDING_LENGTH, FEED_FORWARD_LENGTH)
    add_norm("output_norm.weight")
    add("output.weight", VOCAB_SIZE, EMBEDDING_LENGTH)
