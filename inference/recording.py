"""The ledger's row of one call while it runs: begun before the engine is asked, ended by it.

    parts = begin(caller, model, "chat", messages, shares)    # LedgerUnavailable
    stream = await client.submit(message, part.note)          # hears every event, and the end

A call may be several messages (prompts of one request): it is one row, with their sums. A part
hears the end also where the client has gone, so tokens are those that the node has counted, in the
ledger as in the limits. Of what was asked only numbers and flags are written down. Knows no
database and no journal: `models_app.ledger_writer` does.
"""

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import structs

from inference.charging import Share, Submittable
from inference.messages import (
    Embed,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Load,
    RunnerOptions,
    Sampling,
    Started,
    Token,
    Unload,
    Usage,
)
from inference.requests import Caller
from inference.telling import Telling
from models_app import ledger_writer
from models_app.ledger import Outcome
from models_app.ledger_journal import Begin, End, Figures, Placed, sum_of
from models_app.ledger_recovery import LOCAL
from ollamasite.client_address import current_address
from ollamasite.error_responses import to_service_error
from registry.library import ResolvedModel

Parameter = bool | int | float

_NS_PER_US: Final = 1000
_MOST_INTEGER: Final = 2**63
# The worst comes first: of several messages it is the call's.
_BY_WEIGHT: Final = (Outcome.FAILED, Outcome.LEFT, Outcome.DONE)


class Part:
    """What one message of a call uses. Everything happens on the event loop of the call."""

    def __init__(self, call: "_Call", share: Share, message_id: str) -> None:
        self._call = call
        self._message_id = message_id
        self._node = LOCAL
        self._share = share
        self._has_ended = False
        self.figures = Figures()
        self.outcome = Outcome.DONE
        self.error_code = ""

    def note(self, event: Event) -> None:
        """Take note of an event. The end knows exactly; until then every piece is a token."""
        self._share.note(event)
        used = self.figures
        match event:
            case Started(prompt_tokens=tokens, cached_tokens=cached, queue_ns=queue_ns):
                queue_us = queue_ns // _NS_PER_US
                self.figures = structs.replace(
                    used, tokens_in=tokens, tokens_cached=cached, queue_us=queue_us
                )
            case Token():
                self.figures = structs.replace(used, tokens_out=used.tokens_out + 1)
            case Finished(usage=usage):
                self.figures = figures_of(usage)
                self._end(Outcome.DONE)
            case Failed(code=code, usage=usage):
                if usage != Usage():  # the node has told
                    self.figures = figures_of(usage)
                if code is FailureCode.CANCELLED:
                    self._end(Outcome.LEFT)
                else:
                    self._end(Outcome.FAILED, code.value)

    def submitted(self, node: str) -> None:
        """The message is on its way to a node."""
        self._call.node = node
        if node != self._node:
            self._node = node
            self._call.placed(self._message_id, node)

    def give_up(self, error: BaseException) -> None:
        """The message was not submitted: the call has failed before, or its client has left."""
        if isinstance(error, Exception):
            self._end(Outcome.FAILED, to_service_error(error).code)
        else:
            self._end(Outcome.LEFT)

    def _end(self, outcome: Outcome, error_code: str = "") -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self.outcome = outcome
        self.error_code = error_code
        self._share.settle()
        self._call.part_has_ended()


class _Call:
    """The messages of a call together; `begun` is what was written down of it at first."""

    def __init__(self, begun: Begin, shares: Sequence[Share]) -> None:
        self._request_id = begun.request_id
        self._telling = Telling(begun)
        self.node = ""
        self._unended = len(shares)
        parts = zip(shares, begun.messages, strict=True)
        self.parts = [Part(self, share, message_id) for share, message_id in parts]

    def figures(self) -> Figures:
        """Return what was used so far. For any thread."""
        if len(self.parts) == 1:
            return self.parts[0].figures
        return sum_of([part.figures for part in self.parts])

    def placed(self, message_id: str, node: str) -> None:
        """A message has gone to a node, and the one before it was another."""
        ledger_writer.placed(Placed(self._request_id, message_id, node))

    def part_has_ended(self) -> None:
        """One more has; the last writes the row."""
        self._unended -= 1
        if self._unended:
            return
        worst = min(self.parts, key=lambda part: _BY_WEIGHT.index(part.outcome))
        end = End(
            request_id=self._request_id,
            at_us=_now_us(),
            outcome=worst.outcome.value,
            error_code=worst.error_code,
            figures=self.figures(),
            node=self.node,
        )
        ledger_writer.end(end)
        self._telling.tell(end)


def begin(
    caller: Caller,
    model: ResolvedModel,
    kind: str,
    messages: Sequence[Submittable],
    shares: Sequence[Share],
) -> list[Part]:
    """Write down that a call is let in; return the part of each of its messages.

    `kind` is what a Generate of it is. Raises LedgerUnavailable; then nothing is held for it any
    longer.
    """
    try:
        return _begin(caller, model, kind, messages, shares)
    except BaseException:
        shares[0].charge.give_back()  # it has no row, so it must not count
        raise


def _begin(
    caller: Caller,
    model: ResolvedModel,
    kind: str,
    messages: Sequence[Submittable],
    shares: Sequence[Share],
) -> list[Part]:
    principal = caller.principal
    charge = shares[0].charge
    first = messages[0]
    parameters = _parameters(first)
    seed = parameters.pop("seed", None)
    record = Begin(
        request_id=charge.request_id,
        at_us=_now_us(),
        messages=tuple(message.request_id for message in messages),
        user_id=principal.user_id,
        user_name=principal.username,
        team_id=principal.team.team_id if principal.team else 0,
        team_name=principal.team.name if principal.team else "",
        key_id=principal.key_id or 0,
        key_name=principal.key_name,
        credential=principal.kind.value,
        address=current_address(),
        model_name=model.name,
        model_digest=model.digest,
        dialect=caller.dialect.value,
        kind=_kind(first, kind),
        priority=caller.priority.name.lower(),
        parameters=parameters,
        seed=None if seed is None else int(seed),
        bill=charge.record(),
    )
    call = _Call(record, shares)
    ledger_writer.begin(record, call.figures)
    if record.bill is not None:
        charge.tell_settled(partial(ledger_writer.settled, record.request_id))
    return call.parts


def figures_of(usage: Usage) -> Figures:
    """Return an engine's counters in the ledger's units."""
    return Figures(
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
        tokens_cached=usage.cached_tokens,
        queue_us=usage.queue_ns // _NS_PER_US,
        load_us=usage.load_ns // _NS_PER_US,
        prefill_us=usage.prompt_eval_ns // _NS_PER_US,
        decode_us=usage.eval_ns // _NS_PER_US,
        compute_us=usage.compute_ns // _NS_PER_US,
    )


def _kind(message: Submittable, kind: str) -> str:
    match message:
        case Generate(renders_only=True):
            return "render"
        case Embed():
            return "embed"
        case Load():
            return "load"
        case Unload():
            return "unload"
    return kind


def _parameters(message: Submittable) -> dict[str, Any]:
    """Return the numbers and flags that were asked for or that the model sets, no text.

    Of the sampling's those that are not the default, so the row says how to ask again.
    """
    found: dict[str, Parameter] = {}
    match message:
        case Generate(sampling=sampling, runner=runner, choices=choices):
            found.update(_numbers(runner, RunnerOptions(num_ctx=0)))
            found.update(_numbers(sampling, Sampling()))
            found["temperature"] = sampling.temperature
            if choices > 1:
                found["choices"] = choices
        case Embed(runner=runner) | Load(runner=runner):
            found.update(_numbers(runner, RunnerOptions(num_ctx=0)))
    return found


def _numbers(options: msgspec.Struct, defaults: msgspec.Struct) -> Iterator[tuple[str, Parameter]]:
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if value != getattr(defaults, name) and _is_written(value):
            yield name, value


def _is_written(value: object) -> bool:
    if isinstance(value, int):
        return -_MOST_INTEGER <= value < _MOST_INTEGER
    return isinstance(value, float) and math.isfinite(value)


def _now_us() -> int:
    return time.time_ns() // _NS_PER_US
