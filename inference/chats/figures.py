"""The numbers under an answer. Pure: knows no chat, no row and no page."""

import time
from dataclasses import asdict, dataclass

import msgspec

from inference.messages import Finished

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of how an answer came about; None: it is not."""

    tokens_per_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    load_s: float | None = None
    queue_s: float | None = None

    def to_json(self) -> str:
        """Return them as they are stored."""
        return msgspec.json.encode(asdict(self)).decode()


def read_figures(text: str) -> Figures:
    """Return stored figures."""
    found = msgspec.json.decode(text)
    return Figures(**{name: found.get(name) for name in Figures.__slots__})


class Clock:
    """Counts what a running answer has, until the engine tells it exactly."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._first: float | None = None
        self._tokens = 0
        self._tokens_in: int | None = None
        self._queue_s: float | None = None

    def started(self, prompt_tokens: int, queue_ns: int) -> None:
        """The request has left the queue."""
        self._tokens_in = prompt_tokens
        self._queue_s = round(queue_ns / _NS_PER_S, 3)

    def token(self) -> None:
        """A piece has come."""
        self._first = self._first or time.perf_counter()
        self._tokens += 1

    def so_far(self) -> Figures:
        """Return what can be said before the end, or where no end was told."""
        now = time.perf_counter()
        writing_s = now - self._first if self._first else 0.0
        return Figures(
            tokens_per_s=round(self._tokens / writing_s, 2) if writing_s else None,
            first_token_s=round(self._first - self._began, 3) if self._first else None,
            total_s=round(now - self._began, 3),
            tokens_in=self._tokens_in,
            tokens_out=self._tokens,
            queue_s=self._queue_s,
        )

    def finished(self, end: Finished) -> Figures:
        """Return what the engine has counted."""
        usage = end.usage
        before = self.so_far()
        rate = usage.completion_tokens * _NS_PER_S / usage.eval_ns if usage.eval_ns else None
        return Figures(
            tokens_per_s=before.tokens_per_s if rate is None else round(rate, 2),
            first_token_s=before.first_token_s,
            total_s=before.total_s,
            tokens_in=usage.prompt_tokens,
            tokens_out=usage.completion_tokens,
            load_s=round(usage.load_ns / _NS_PER_S, 3),
            queue_s=round(usage.queue_ns / _NS_PER_S, 3),
        )
