"""What every request of this node uses, from its arrival to its end. Pure but for the journal.

Runners tell with every step which tokens they have computed for whom and how long it took; the
node knows who has waited for how long. So a request has its figures whatever ends it: a runner
that has died, a web process that has gone. Sums since the start are kept, and every end is
written to the node's journal. Knows no scheduling and no socket.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from inference.engine.meters import Meters, ModelMeter
from inference.engine.runner_messages import Charge
from inference.messages import (
    Counters,
    Embed,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    RunningEntry,
    Started,
    Unload,
    Usage,
)
from inference.node_journal import NodeEnd, NodeJournal

logger = logging.getLogger(__name__)

_NS_PER_MS: Final = 10**6


@dataclass(slots=True)
class _Account:
    """One request. Times are nanoseconds of the node's clock; 0: not yet."""

    request: Generate | Embed | Load | Unload
    meter: ModelMeter
    came_at_ns: int
    load_ns: int = 0
    queue_ns: int = 0
    position: int = 0  # in the queue; 0: it did not wait
    started: Started | None = None
    started_at_ns: int = 0
    first_token_at_ns: int = 0
    last_token_at_ns: int = 0
    prompt_tokens: int = 0  # computed, those of an embedding's inputs
    completion_tokens: int = 0
    compute_ns: int = 0

    def tokens_came(self, count: int, now_ns: int) -> None:
        """Count tokens of the answer that a step has brought."""
        self.meter.computed_completion_tokens += count
        if self.first_token_at_ns:
            self.meter.between_tokens.add_ns(now_ns - self.last_token_at_ns)
        else:
            self.first_token_at_ns = now_ns
            self.meter.first_token.add_ns(now_ns - self.came_at_ns)
        self.last_token_at_ns = now_ns

    def usage(self, now_ns: int) -> Usage:
        """Return what a request has used that does not know it itself."""
        first_ns = self.first_token_at_ns or now_ns
        # A step's tokens are told before its events: one that brings both begins with the tokens.
        begun_ns = min(self.started_at_ns or now_ns, first_ns)
        return Usage(
            prompt_tokens=self.started.prompt_tokens if self.started else self.prompt_tokens,
            cached_tokens=self.started.cached_tokens if self.started else 0,
            completion_tokens=self.completion_tokens,
            prompt_eval_ns=first_ns - begun_ns,
            eval_ns=now_ns - first_ns,
        )


def _log_end(event: Finished | Failed, usage: Usage, account: _Account) -> None:
    request = account.request
    facts = {
        "request_id": request.call_id,
        "engine_id": request.request_id,
        "model": request.model.name,
        "outcome": event.code.value if isinstance(event, Failed) else event.reason.value,
        "tokens_in": usage.prompt_tokens,
        "tokens_cached": usage.cached_tokens,
        "tokens_out": usage.completion_tokens,
        "queue_ms": usage.queue_ns // _NS_PER_MS,
    }
    logger.info("request ended", extra=facts)


class Accounts:
    """The requests of a node that have not ended, and the sums of those that have."""

    def __init__(
        self, journal: NodeJournal | None, clock_ns: Callable[[], int], meters: Meters
    ) -> None:
        self._journal = journal
        self._meters = meters
        self._clock_ns = clock_ns
        self._open: dict[str, _Account] = {}
        self._sums = Counters(request_id="")

    def told(self, entry: RunningEntry) -> RunningEntry:
        """Return a running request with what has been computed for it so far."""
        account = self._open.get(entry.request_id)
        if account is None:
            return entry
        usage = account.usage(self._clock_ns())
        # The first token came at the end of the prompt; those behind it take the answer's time.
        behind = max(0, usage.completion_tokens - 1)
        return structs.replace(
            entry,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            tokens_per_s=behind * 1e9 / usage.eval_ns if usage.eval_ns else 0.0,
        )

    def open(self, request: Generate | Embed | Load | Unload) -> None:
        """A request has come."""
        meter = self._meters.of(request.model.name)
        self._open[request.request_id] = _Account(request, meter, self._clock_ns())

    def dispatched(self, request_id: str, *, load_ns: int, queue_ns: int, position: int) -> None:
        """A request goes to its runner, after such waits."""
        if account := self._open.get(request_id):
            account.load_ns = load_ns
            account.queue_ns = queue_ns
            account.position = position
            account.meter.queue.add_ns(queue_ns)

    def charge(self, charges: Sequence[Charge]) -> None:
        """A runner has computed. To be told before the events of the same step."""
        now_ns = self._clock_ns()
        for charge in charges:
            account = self._open.get(charge.request_id)
            if account is None:
                continue
            account.prompt_tokens += charge.prompt_tokens
            account.completion_tokens += charge.completion_tokens
            account.compute_ns += charge.compute_ns
            account.meter.computed_prompt_tokens += charge.prompt_tokens
            if charge.completion_tokens:
                account.tokens_came(charge.completion_tokens, now_ns)
        if charges and (account := self._open.get(charges[0].request_id)):
            account.meter.step.add_ns(sum(charge.compute_ns for charge in charges))

    def complete(self, event: Event) -> Event:
        """Return an event with what only the node knows; with an end, the account is closed."""
        account = self._open.get(event.request_id)
        if account is None:
            return event
        if isinstance(event, Started):
            account.started = event
            account.started_at_ns = self._clock_ns()
            return structs.replace(
                event, queue_ns=account.queue_ns, queue_position=account.position
            )
        if isinstance(event, Finished | Failed):
            return self._ended(event, account)
        return event

    def counters(self, request_id: str) -> Counters:
        """Return the sums since the node began."""
        return structs.replace(self._sums, request_id=request_id)

    def _ended(self, event: Finished | Failed, account: _Account) -> Event:
        del self._open[event.request_id]
        is_failed = isinstance(event, Failed)
        usage = account.usage(self._clock_ns()) if is_failed else event.usage
        usage = structs.replace(
            usage,
            # A load that was waited for knows its own time.
            load_ns=account.load_ns or usage.load_ns,
            queue_ns=account.queue_ns or usage.queue_ns,
            compute_ns=account.compute_ns,
        )
        self._add(usage, is_failed=is_failed)
        _log_end(event, usage, account)
        if self._journal is not None:
            code = event.code.value if isinstance(event, Failed) else ""
            self._journal.append(NodeEnd(event.request_id, usage, code))
        ended = structs.replace(event, usage=usage)
        account.meter.ended(ended)
        return ended

    def _add(self, usage: Usage, *, is_failed: bool) -> None:
        sums = self._sums
        self._sums = Counters(
            request_id="",
            ended=sums.ended + 1,
            failed=sums.failed + is_failed,
            prompt_tokens=sums.prompt_tokens + usage.prompt_tokens,
            completion_tokens=sums.completion_tokens + usage.completion_tokens,
            cached_tokens=sums.cached_tokens + usage.cached_tokens,
            compute_ns=sums.compute_ns + usage.compute_ns,
        )
