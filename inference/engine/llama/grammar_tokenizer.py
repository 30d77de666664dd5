"""A loaded vocabulary in llguidance's terms. Knows no grammars.

The same as `llguidance.llamacpp`, which calls functions that llama-cpp-python has deprecated.
"""

import ctypes
from typing import Any, Final

import llama_cpp.llama_cpp as lib
from llguidance import LLTokenizer

from inference.engine.model import UnusableInput

# In front of a name, llguidance takes it for a token that stands for no text.
_SPECIAL: Final = b"\xff"
_LONGEST_PIECE_BYTES: Final = 16 * 1024


def grammar_tokenizer(vocab: Any) -> LLTokenizer:
    """Return the tokenizer of a llama_vocab; it must not outlive the model.

    Takes about a second for each 100,000 tokens. Every token that ends a generation, not the EOS
    alone, is allowed where a grammar may end. Raises UnusableInput where the model has none.
    """
    every = range(int(lib.llama_vocab_n_tokens(vocab)))
    ends = [token for token in every if lib.llama_vocab_is_eog(vocab, token)]
    if not ends:
        raise UnusableInput("this model has no end token, so it cannot follow a JSON schema")
    buffer = ctypes.create_string_buffer(_LONGEST_PIECE_BYTES)
    found: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=[_piece(vocab, token, buffer) for token in every],
        vocab_ptr=vocab,
        tokenize_fptr=ctypes.cast(lib.llama_tokenize, ctypes.c_void_p).value,
        eos_token=ends,
        slices=None,
    )
    return found


def _piece(vocab: Any, token: int, buffer: Any) -> bytes:
    """Return a token's bytes, marked where it stands for no text."""
    length = lib.llama_token_to_piece(vocab, token, buffer, _LONGEST_PIECE_BYTES, 0, True)  # noqa: FBT003 - a C function
    if length < 0:
        raise UnusableInput(f"token {token} of this model is too long for a grammar")
    piece: bytes = ctypes.string_at(buffer, length)
    attributes = int(lib.llama_vocab_get_attr(vocab, token))
    is_special = attributes & lib.LLAMA_TOKEN_ATTR_CONTROL or (
        attributes & lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        and piece.startswith(b"<")
        and piece.endswith(b">")
    )
    return _SPECIAL + piece if is_special else piece
