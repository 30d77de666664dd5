"""The events of one request, as whoever asked hears them; FailureCode → ServiceError.

One `EngineStream` for each request that was sent to a node, or that is sent again to another one.
What nobody reads is kept up to a bound. Knows no socket and no node: `inference.client` does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from inference import errors
from inference.messages import (
    Embed,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Load,
    Token,
    Unload,
)
from ollamasite.errors import BadRequest, ServiceError

logger = logging.getLogger(__name__)

# So much of an answer may wait in memory for a reader who is slower than the engine.
MOST_UNHEARD_BYTES: Final = 8 * 1024 * 1024
# What an event and its fields take beside their text, measured roughly.
_EVENT_BYTES: Final = 256
_LOGPROB_BYTES: Final = 128

Submittable = Generate | Embed | Load | Unload
# Hears every event of a request as it arrives, and its end in every case: also after the stream
# was left, and when the connection is lost. Must not raise.
Observer = Callable[[Event], None]
# Is asked before a request that nothing was heard of ends for want of a node, or of room on one;
# True: it goes on.
Rescue = Callable[["EngineStream", Failed], bool]

FAILURES: Final[dict[FailureCode, type[ServiceError]]] = {
    FailureCode.BAD_REQUEST: BadRequest,
    FailureCode.TEMPLATE_FAILED: errors.TemplateFailed,
    FailureCode.PROMPT_TOO_LONG: errors.PromptTooLong,
    FailureCode.LOAD_FAILED: errors.LoadFailed,
    FailureCode.NO_ROOM: errors.LoadFailed,
    FailureCode.RUNNER_CRASHED: errors.RunnerCrashed,
    FailureCode.QUEUE_FULL: errors.ServerBusy,
    FailureCode.CANCELLED: errors.RequestCancelled,
    FailureCode.SHUTTING_DOWN: errors.EngineUnavailable,
    FailureCode.CONNECTION_LOST: errors.EngineUnavailable,
    FailureCode.UPSTREAM_UNREACHABLE: errors.UpstreamUnreachable,
    FailureCode.UPSTREAM_FAILED: errors.UpstreamFailed,
    FailureCode.INTERNAL: errors.EngineFailed,
}

# Another node may do better.
_OF_THE_NODE: Final = (
    FailureCode.CONNECTION_LOST,
    FailureCode.SHUTTING_DOWN,
    FailureCode.NO_ROOM,
)


def to_service_error(failed: Failed) -> ServiceError:
    """Return the error a client is told for an engine's failure."""
    return FAILURES[failed.code](failed.message)


class Line(Protocol):
    """The connection to a node that a request was sent by."""

    node: str

    def cancel(self, request_id: str) -> None:
        """Tell the node that nobody waits for a request any more."""


class EngineStream:
    """The events of one request, in order. Leaving it early cancels the request.

    Iterating yields what `inference.messages` says of the request's kind, Started, Token… and
    Finished or Embedded… and Finished, and raises the ServiceError of a Failed.
    """

    def __init__(self, request: Submittable, observe: Observer, rescue: Rescue | None) -> None:
        self.request = request
        self.request_id = request.request_id
        self.node = ""
        self._observe = observe
        self._rescue = rescue
        self._connection: Line | None = None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._unheard_bytes = 0
        self._failure: ServiceError | None = None
        self._has_ended = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for its events."""
        return not self._has_ended and self._failure is None

    def attach(self, connection: Line) -> None:
        """From now on its events come over this connection."""
        self._connection = connection
        self.node = connection.node

    def put(self, event: Event) -> None:
        """Add an event that arrived."""
        rescue, self._rescue = self._rescue, None
        is_the_nodes = isinstance(event, Failed) and event.code in _OF_THE_NODE
        if isinstance(event, Failed) and is_the_nodes and rescue and rescue(self, event):
            return
        self._observe(event)
        if not self.is_wanted:
            return
        self._events.put_nowait(event)
        self._unheard_bytes += _size_bytes(event)
        if self._unheard_bytes > MOST_UNHEARD_BYTES:
            logger.warning("request %s is ended: its answer is not read", self.request_id)
            self.fail(errors.ReaderTooSlow())

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events until the request ends."""
        while not self._has_ended:
            event = await self._events.get()
            self._unheard_bytes -= _size_bytes(event)
            if self._failure is not None:
                self._has_ended = True
                raise self._failure
            if isinstance(event, Failed):
                self._has_ended = True
                raise to_service_error(event)
            self._has_ended = isinstance(event, Finished)
            yield event

    def fail(self, error: ServiceError) -> None:
        """Cancel the request and raise `error` in the place of all that was not heard yet."""
        if not self._has_ended and self._failure is None:
            self._failure = error
            self.cancel()
            while not self._events.empty():
                self._events.get_nowait()
            cancelled = FailureCode.CANCELLED
            # Wakes it; the end that the node will tell is for the observer.
            self._events.put_nowait(Failed(request_id=self.request_id, code=cancelled, message=""))

    def close(self) -> None:
        """Cancel the request unless it has ended. Safe to call at any time, more than once."""
        if not self._has_ended:
            self._has_ended = True
            self.cancel()

    def cancel(self) -> None:
        """Tell the node, if it has one, that nobody waits for it any more."""
        if self._connection is not None:
            self._connection.cancel(self.request_id)


def _size_bytes(event: Event) -> int:
    """Return about what a piece of an answer takes in memory; what comes once is not counted."""
    if not isinstance(event, Token):
        return 0
    logprobs = sum(1 + len(logprob.top) for logprob in event.logprobs)
    text = len(event.text) + len(event.thinking)
    return _EVENT_BYTES + text + logprobs * _LOGPROB_BYTES
