"""Text ↔ tokens of a loaded model: `engine.model.Vocabulary` over llama.cpp.

Reads only what never changes after the load, so that several threads may use it. Knows no context.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as lib

from inference.prompting.control_names import BoundaryTexts, ControlNames

_NO_TOKEN: Final = -1
_CONTROL: Final = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN


class LlamaVocabulary:
    """See `Vocabulary`."""

    def __init__(self, model: Any, *, window_tokens: int) -> None:
        self.vocab = lib.llama_model_get_vocab(model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocab))
        self.window_tokens = window_tokens
        self._pieces: dict[int, bytes] = {}
        self._control_names: ControlNames | None = None

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        """See `Vocabulary`."""
        found = self._tokenize(text, add_special=True, parse_special=parse_special)
        # A template may write the BOS that the tokenizer adds as well.
        bos = lib.llama_vocab_bos(self.vocab)
        if self.adds_bos() and found[:2] == [bos, bos]:
            del found[0]
        return found

    def tokenize_part(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Vocabulary`."""
        return self._tokenize(text, add_special=False, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """See `Vocabulary`."""
        if not all(self.has_token(token) for token in tokens):
            raise ValueError("a token id is outside the vocabulary")
        return b"".join(map(self.named_piece, tokens)).decode("utf-8", "replace")

    def has_token(self, token: int) -> bool:
        """See `Vocabulary`."""
        return 0 <= token < self.n_vocab

    def piece(self, token: int) -> bytes:
        """See `Vocabulary`."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._piece(token, special=False)
        return known

    def named_piece(self, token: int) -> bytes:
        """See `Vocabulary`."""
        return self._piece(token, special=True)

    def is_end(self, token: int) -> bool:
        """See `Vocabulary`."""
        return bool(lib.llama_vocab_is_eog(self.vocab, token))

    def adds_bos(self) -> bool:
        """See `Vocabulary`."""
        return bool(lib.llama_vocab_get_add_bos(self.vocab))

    def control_names(self) -> ControlNames:
        """See `Vocabulary`."""
        if self._control_names is None:
            self._control_names = ControlNames(
                self._name(token)
                for token in range(self.n_vocab)
                if lib.llama_vocab_get_attr(self.vocab, token) & _CONTROL
            )
        return self._control_names

    def boundary_texts(self) -> BoundaryTexts:
        """See `Vocabulary`."""
        begin, end = lib.llama_vocab_bos(self.vocab), lib.llama_vocab_eos(self.vocab)
        return BoundaryTexts(self._name(begin), self._name(end))

    def fill_tokens(self) -> tuple[int, int, int] | None:
        """See `Vocabulary`."""
        found = (
            int(lib.llama_vocab_fim_pre(self.vocab)),
            int(lib.llama_vocab_fim_suf(self.vocab)),
            int(lib.llama_vocab_fim_mid(self.vocab)),
        )
        return None if _NO_TOKEN in found else found

    def _name(self, token: int) -> str:
        return "" if token == _NO_TOKEN else self.named_piece(token).decode("utf-8", "replace")

    def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 8
        tokens = (lib.llama_token * capacity)()
        count = lib.llama_tokenize(
            self.vocab, data, len(data), tokens, capacity, add_special, parse_special
        )
        if count < 0:
            raise ValueError("the text cannot be tokenized")
        return list(tokens[:count])

    def _piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        count = lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]
