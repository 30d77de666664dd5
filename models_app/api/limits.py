"""`/api/limits`: what is left of one's limits; `/api/limit-rules`: which are set. Ours.

    GET    /api/limits?model=llama3
    GET    /api/limit-rules
    PUT    /api/limit-rules
    {"subject": "team", "name": "vision", "unit": "tokens", "period": "day", "amount": 2000000}
    DELETE /api/limit-rules/7

A rule that is put takes the place of the one with the same subject, name, unit and period. A model
that one may not see is not found, and neither are its limits. Knows no row of the database.
"""

from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app import limit_rules, limits, selectors
from models_app.errors import ModelNotFound
from models_app.limit_headers import moment
from models_app.limit_kinds import Unit
from models_app.limit_rules import NewRule, RuleRecord
from models_app.limits import LimitState
from models_app.names import ModelName
from models_app.permissions import Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.http import json_response
from ollamasite.moments import print_moment

_MS_PER_S: Final = 1000


class LimitReply(msgspec.Struct, kw_only=True):
    """A limit that concerns the caller.

    `scope` is whose use it counts: user, key, team, model or site. `period` is empty and the rest
    null for what may be under way at once; `resets_in_s` is until all of it is there again.
    """

    scope: str
    unit: str
    period: str
    amount: int
    used: int
    remaining: int
    resets_at: str | None
    resets_in_s: float | None


class LimitsReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/limits`; all of these hold together."""

    limits: list[LimitReply]


class RuleBody(msgspec.Struct):
    """The body of `PUT /api/limit-rules`.

    `subject` is `site`, `each user`, `team`, `user`, `key` or `model`, and `name` what it is
    called, for a key its prefix. `period` is `minute`, `day` or `month`, and none for `parallel`.
    """

    subject: str = ""
    name: str = ""
    unit: str = ""
    period: str = ""
    amount: int = 0


class RuleReply(msgspec.Struct, kw_only=True):
    """A limit that is set."""

    id: int
    subject: str
    name: str
    unit: str
    period: str
    amount: int
    changed_at: str


class RulesReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/limit-rules`."""

    rules: list[RuleReply]


class LimitsView(ReadView):
    """`GET /api/limits`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell what is left of every limit that concerns the caller, and when it is there again.

        With `model`, those of that model too.
        """
        name = request.query_params.get("model", "")
        models = [await sync_to_async(_full_name)(request.user, name)] if name else []
        found = await limits.look(request.user, models)
        return json_response(LimitsReply(limits=[_limit_reply(state) for state in found]))


class LimitRulesView(CallView):
    """`GET` and `PUT /api/limit-rules`."""

    http_method_names = ["get", "head", "put"]

    async def get(self, request: Any) -> HttpResponse:
        """List every limit that is set, besides those of the site's settings."""
        found = await sync_to_async(limit_rules.list_rules)(request.user)
        return json_response(RulesReply(rules=[_rule_reply(record) for record in found]))

    async def put(self, request: Any) -> HttpResponse:
        """Set a limit."""
        body = await read_body(
            request, RuleBody, "LimitRuleRequest", empty_message=NATIVE_EMPTY_BODY
        )
        new = NewRule(**msgspec.structs.asdict(body))
        record = await sync_to_async(limit_rules.put_rule)(request.user, new)
        return json_response(_rule_reply(record))


class LimitRuleView(CallView):
    """`DELETE /api/limit-rules/<id>`."""

    http_method_names = ["delete"]

    async def delete(self, request: Any, rule_id: int) -> HttpResponse:
        """Remove a limit."""
        await sync_to_async(limit_rules.remove_rule)(request.user, rule_id)
        return HttpResponse(status=204)


def _full_name(principal: Principal, text: str) -> str:
    """Return the full name of a model that the principal may see. Raises ModelNotFound."""
    name = ModelName.parse(text)
    model = selectors.find_model(principal, name)
    if model is None:
        raise ModelNotFound(text)
    return ModelName(host=model.host, namespace=model.namespace, model=model.name).full


def _limit_reply(state: LimitState) -> LimitReply:
    limit = state.limit
    is_lasting = limit.unit is not Unit.PARALLEL
    return LimitReply(
        scope=limit.kind,
        unit=limit.unit,
        period=limit.period,
        amount=limit.amount,
        used=limit.amount - state.remaining,
        remaining=state.remaining,
        resets_at=moment(state.now_ms + state.resets_ms) if is_lasting else None,
        resets_in_s=state.resets_ms / _MS_PER_S if is_lasting else None,
    )


def _rule_reply(record: RuleRecord) -> RuleReply:
    return RuleReply(
        id=record.rule_id,
        subject=record.subject,
        name=record.name,
        unit=record.unit,
        period=record.period,
        amount=record.amount,
        changed_at=print_moment(record.changed_at),
    )
