"""Log probabilities in the shape of `/v1/completions`: four lists in step.

Shape: `openai.types.completion_choice.Logprobs`. Knows no route, no engine and no answer.
"""

from collections.abc import Sequence
from typing import Any, Final

from inference.api.answers import LEAST_LOGPROB
from inference.messages import TokenLogprob

_MARK_BITS: Final = 0xC0
_CONTINUES: Final = 0x80


class LogprobsWriter:
    """Writes the tokens of one choice, in pieces; offsets go on from piece to piece."""

    def __init__(self, top: int, *, hidden_bytes: int = 0) -> None:
        """`top`: how many alternatives a token has.

        So many bytes at the front of the tokens are not in the choice's text: a token that marks
        the beginning, a blank that the tokenizer has put there.
        """
        self._top = top
        self._hidden_bytes = hidden_bytes
        self._offset = 0  # characters
        self._is_first = True

    def write(self, tokens: Sequence[TokenLogprob], *, is_prompt: bool = False) -> dict[str, Any]:
        """Return tokens that follow those before; the first of a prompt has no probability."""
        has_no_score = is_prompt and self._is_first
        logprobs: list[float | None] = [max(LEAST_LOGPROB, token.logprob) for token in tokens]
        tops: list[dict[str, float] | None] = [self._alternatives(token) for token in tokens]
        if has_no_score and tokens:
            logprobs[0] = tops[0] = None
        self._is_first = self._is_first and not tokens
        return {
            "tokens": [token_text(token.token) for token in tokens],
            "token_logprobs": logprobs,
            "top_logprobs": tops if self._top else None,
            "text_offset": [self._offset_of(token.token) for token in tokens],
        }

    def _alternatives(self, token: TokenLogprob) -> dict[str, float]:
        """Return the most probable tokens and the one that came, which need not be one of them."""
        found = {token_text(top.token): max(LEAST_LOGPROB, top.logprob) for top in token.top}
        found.setdefault(token_text(token.token), max(LEAST_LOGPROB, token.logprob))
        return found

    def _offset_of(self, token: bytes) -> int:
        offset = self._offset
        shown = token[self._hidden_bytes :]
        self._hidden_bytes = max(0, self._hidden_bytes - len(token))
        self._offset += sum(byte & _MARK_BITS != _CONTINUES for byte in shown)
        return offset


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the lists of two pieces, one behind the other."""
    return {key: None if value is None else value + second[key] for key, value in first.items()}


def token_text(token: bytes) -> str:
    """Return a token as text; half a character as its bytes, in OpenAI's own notation."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def mean_logprob(tokens: Sequence[TokenLogprob]) -> float:
    """Return the mean log probability per token; of nothing, the least there is."""
    if not tokens:
        return float("-inf")
    return sum(token.logprob for token in tokens) / len(tokens)
