"""The end of a call for those who look after the site: its figures, its line, its trace.

Names no prompt, no answer and no key. Knows no engine and no HTTP.
"""

import logging
from typing import Any, Final

from inference.model_labels import ModelLabels
from models_app.ledger_journal import Begin, End
from ollamasite import meters
from ollamasite.request_context import current_request_id
from ollamasite.request_record import current

logger = logging.getLogger(__name__)

_labels: Final = ModelLabels()
_US_PER_MS: Final = 1000


class Telling:
    """One call. Made while its request is the current one, told from wherever it ends."""

    def __init__(self, begun: Begin) -> None:
        self._begun = begun
        self._record = current.get()
        self._request_id = self._record.request_id if self._record else current_request_id()

    def tell(self, end: End) -> None:
        """Count the call, and have it in the line of its request or in one of its own."""
        self._count(end)
        self._trace(end)
        if self._record is not None and self._record.takes_calls:
            self._record.calls.append(self._facts(end))
            return
        by = {"request_id": self._request_id, "user_id": self._begun.user_id}
        logger.info("call", extra=by | {"dialect": self._begun.dialect} | self._facts(end))

    def _count(self, end: End) -> None:
        begun, used = self._begun, end.figures
        model = _labels.label(begun.model_name)
        meters.call_ended(model=model, kind=begun.kind, dialect=begun.dialect, outcome=end.outcome)
        meters.tokens_used(
            model,
            prompt=used.tokens_in,
            cached=used.tokens_cached,
            completion=used.tokens_out,
        )

    def _trace(self, end: End) -> None:
        if self._record is None or self._record.trace is None:
            return
        begun, used = self._begun, end.figures
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": begun.kind,
            "gen_ai.request.model": begun.model_name,
            "gen_ai.usage.input_tokens": used.tokens_in,
            "gen_ai.usage.output_tokens": used.tokens_out,
            "ollamasite.cached_tokens": used.tokens_cached,
            "ollamasite.outcome": end.outcome,
            "ollamasite.node": end.node,
        }
        phases = (
            # What a request waits for its turn is a part of the time until it begins.
            ("load", max(0, used.load_us - used.queue_us)),
            ("queue", used.queue_us),
            ("prefill", used.prefill_us),
            ("decode", used.decode_us),
        )
        self._record.trace.add_call(
            f"{begun.kind} {begun.model_name}",
            attributes,
            began_us=begun.at_us,
            ended_us=end.at_us,
            phases=phases,
        )

    def _facts(self, end: End) -> dict[str, Any]:
        begun, used = self._begun, end.figures
        return {
            "call": begun.request_id,
            "engine_ids": list(begun.messages),
            "model": begun.model_name,
            "kind": begun.kind,
            "outcome": end.outcome,
            "error_code": end.error_code,
            "node": end.node,
            "tokens_in": used.tokens_in,
            "tokens_cached": used.tokens_cached,
            "tokens_out": used.tokens_out,
            "queue_ms": used.queue_us // _US_PER_MS,
            "load_ms": used.load_us // _US_PER_MS,
            "prefill_ms": used.prefill_us // _US_PER_MS,
            "decode_ms": used.decode_us // _US_PER_MS,
        }
