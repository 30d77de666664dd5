"""Prompts are prepared on a thread of their own, so that the batch loop never waits for one.

A template is slow where it is hostile and a tokenizer where a text is long; llama.cpp computes
meanwhile. Every request that was submitted comes out once, prepared, refused or shown,
unless it was dropped before. Knows no sockets.
"""

import os
import queue
import select
import threading
import time
from dataclasses import dataclass
from typing import Final

from inference.engine.model import Model
from inference.engine.prompt import Prepared, PromptError, prepare
from inference.messages import (
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Rendered,
)

# How long `take` waits for what was just submitted: most prompts are ready sooner, and one that
# misses a step of the batch loop waits for all of it, ten times as long.
_PATIENCE_S: Final = 0.01
_SIGNAL: Final = (1).to_bytes(8, "little")
# llguidance recurses where a schema does; `schema_limits` is measured with 8 MiB.
_STACK_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settled:
    """A request of which nothing is computed, and all that its caller is told."""

    request_id: str
    events: tuple[Event, ...]


class Intake:
    """A line of requests to prepare. `fileno` becomes readable when `take` has something."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._submitted: queue.SimpleQueue[Generate] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Prepared | Settled] = queue.SimpleQueue()
        self._pending: set[str] = set()
        self._has_new = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        before = threading.stack_size(_STACK_BYTES)
        threading.Thread(target=self._run, name="intake", daemon=True).start()
        threading.stack_size(before)

    def fileno(self) -> int:
        """Return what to wait on."""
        return self._event

    @property
    def is_busy(self) -> bool:
        """Whether something is being prepared."""
        return bool(self._pending)

    def is_pending(self, request_id: str) -> bool:
        """Whether a request was submitted and not yet taken."""
        return request_id in self._pending

    def submit(self, request: Generate) -> None:
        """Put a request in line."""
        self._pending.add(request.request_id)
        self._has_new = True
        self._submitted.put(request)

    def drop(self, request_id: str) -> bool:
        """Forget a request that has not been taken; return whether there was one."""
        if request_id not in self._pending:
            return False
        self._pending.discard(request_id)
        return True

    def take(self) -> list[Prepared | Settled]:
        """Return what has become ready, in order of submission.

        Waits for a moment, once, for what was submitted since the last call.
        """
        deadline = time.monotonic() + (_PATIENCE_S if self._has_new else 0.0)
        self._has_new = False
        taken = self._collect()
        while self._pending and (left_s := deadline - time.monotonic()) > 0:
            select.select([self._event], [], [], left_s)
            taken += self._collect()
        return taken

    def _collect(self) -> list[Prepared | Settled]:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return []
        collected = []
        while not self._ready.empty():
            result = self._ready.get()
            request_id = _id_of(result)
            if request_id in self._pending:
                self._pending.discard(request_id)
                collected.append(result)
        return collected

    def _run(self) -> None:
        while True:
            request = self._submitted.get()
            self._ready.put(self._prepared(request))
            os.write(self._event, _SIGNAL)

    def _prepared(self, request: Generate) -> Prepared | Settled:
        if request.request_id not in self._pending:
            return _refused(request, FailureCode.CANCELLED, "canceled")
        try:
            prepared = prepare(self._model, request)
        except PromptError as error:
            return _refused(request, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - the thread serves every later request too
            message = f"the prompt could not be prepared: {error}"
            return _refused(request, FailureCode.INTERNAL, message)
        return _shown(prepared) if request.renders_only else prepared


def _refused(request: Generate, code: FailureCode, message: str) -> Settled:
    request_id = request.request_id
    return Settled(request_id, (Failed(request_id=request_id, code=code, message=message),))


def _shown(prepared: Prepared) -> Settled:
    request_id = prepared.request.request_id
    rendered = Rendered(
        request_id=request_id,
        text=prepared.rendered,
        image_count=prepared.image_count,
        prompt_tokens=prepared.counted_tokens,
    )
    return Settled(request_id, (rendered, Finished(request_id=request_id, reason=DoneReason.STOP)))


def _id_of(result: Prepared | Settled) -> str:
    return result.request_id if isinstance(result, Settled) else result.request.request_id
