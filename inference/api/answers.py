"""What an answer is made of: its choices as they grow, log probabilities, the queue's headers.

Shared by the dialects' writers. Knows no HTTP response, no dialect's shape and no socket.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Event,
    Finished,
    PromptScored,
    Rendered,
    Started,
    Token,
    TokenLogprob,
    ToolCall,
    TopToken,
)

# JSON has no infinity; OpenAI writes this for what is practically impossible.
LEAST_LOGPROB: Final = -9999.0
_NS_PER_MS: Final = 1_000_000


class Said(Protocol):
    """What a model said: a piece of an answer, or all of it. A Token is one, a Choice another."""

    @property
    def text(self) -> str:
        """What is for the caller."""

    @property
    def thinking(self) -> str:
        """What it thought before."""

    @property
    def tool_calls(self) -> Sequence[ToolCall]:
        """The calls it asks for."""


@dataclass(slots=True)
class Choice:
    """One of the answers to a prompt. `reason` is None until it has ended."""

    pieces: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: DoneReason | None = None
    stop_sequence: str = ""

    @property
    def text(self) -> str:
        """All of its text so far."""
        return "".join(self.pieces)

    @property
    def thinking(self) -> str:
        """All of its thinking so far."""
        return "".join(self.thoughts)

    def extend(self, said: Said, logprobs: Iterable[TokenLogprob]) -> None:
        """Take a piece."""
        self.pieces.append(said.text)
        self.thoughts.append(said.thinking)
        self.tool_calls += said.tool_calls
        self.logprobs += logprobs


class Answer:
    """All that came of a request. `finished` is None until it has ended.

    `rendered` is there where only the prompt was asked for.
    """

    def __init__(self) -> None:
        self.started: Started | None = None
        self.rendered: Rendered | None = None
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
            case Rendered():
                self.rendered = event
            case Token(choice=number, logprobs=logprobs):
                self._choice(number).extend(event, logprobs)
            case ChoiceEnded(choice=number, reason=reason, stop_sequence=stopped_by):
                self._choice(number).reason = reason
                self._choice(number).stop_sequence = stopped_by
            case Finished(logprobs=logprobs):
                self.finished = event
                self._choice(0).extend(last_words(event), logprobs)
                self._choice(0).stop_sequence = event.stop_sequence or self._choice(0).stop_sequence

    def choices(self, finished: Finished) -> list[Choice]:
        """Return all choices in order; those that did not end by themselves have the end's reason.

        There is always one.
        """
        for choice in self._choices.values():
            choice.reason = choice.reason or finished.reason
        return [self._choice(number) for number in sorted(self._choices)]

    def _choice(self, number: int) -> Choice:
        return self._choices.setdefault(number, Choice())


def last_words(finished: Finished) -> Said:
    """Return what a model said with its end."""
    return Token(request_id=finished.request_id, text=finished.text)


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
        "logprob": max(LEAST_LOGPROB, token.logprob),
        "bytes": list(token.token),
    }
