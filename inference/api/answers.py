"""What an answer is made of: its choices as they grow, log probabilities, the queue's headers.

Shared by the dialects' writers. Knows no HTTP response, no dialect's shape and no socket.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Event,
    Finished,
    PromptScored,
    Started,
    Token,
    TokenLogprob,
    TopToken,
)

# JSON has no infinity; OpenAI writes this for what is practically impossible.
_LEAST_LOGPROB: Final = -9999.0
_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class Choice:
    """One of the answers to a prompt. `reason` is None until it has ended."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: DoneReason | None = None

    @property
    def text(self) -> str:
        """All of its text so far."""
        return "".join(self.pieces)


class Answer:
    """All that came of a request. `finished` is None until it has ended."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.prompt_logprobs: list[TokenLogprob] = []
        self._choices: dict[int, Choice] = {}

    def add(self, event: Event) -> None:
        """Take an event."""
        match event:
            case Started():
                self.started = event
            case PromptScored(logprobs=logprobs):
                self.prompt_logprobs += logprobs
            case Token(text=text, choice=number, logprobs=logprobs):
                self._extend(number, text, logprobs)
            case ChoiceEnded(choice=number, reason=reason):
                self._choice(number).reason = reason
            case Finished(text=text, logprobs=logprobs):
                self.finished = event
                self._extend(0, text, logprobs)

    def choices(self, finished: Finished) -> list[Choice]:
        """Return all choices in order; those that did not end by themselves have the end's reason.

        There is always one.
        """
        for choice in self._choices.values():
            choice.reason = choice.reason or finished.reason
        return [self._choice(number) for number in sorted(self._choices)]

    def _extend(self, number: int, text: str, logprobs: Iterable[TokenLogprob]) -> None:
        choice = self._choice(number)
        choice.pieces.append(text)
        choice.logprobs += logprobs

    def _choice(self, number: int) -> Choice:
        return self._choices.setdefault(number, Choice())


def queue_headers(started: Started | None) -> dict[str, str]:
    """Return the headers that tell how long a request waited and at which place it stood."""
    if started is None:
        return {}
    return {
        "X-Queue-Ms": str(started.queue_ns // _NS_PER_MS),
        "X-Queue-Position": str(started.queue_position),
    }


def token_entry(token: TokenLogprob | TopToken) -> dict[str, Any]:
    """Return a token with its log probability as all dialects write it.

    Half a character shows as U+FFFD in `token`; `bytes` has it as it is.
    """
    return {
        "token": token.token.decode("utf-8", "replace"),
        "logprob": max(_LEAST_LOGPROB, token.logprob),
        "bytes": list(token.token),
    }
