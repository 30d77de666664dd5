"""What the page of usage tells: totals and their change, a chart, a year, who and what used most.

Sync; who may see what is asked by `models_app.usage`. Knows no HTTP and no template.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from django.utils import timezone

from models_app import usage, usage_charts
from models_app.models import ApiKey, Team, User
from models_app.permissions import Principal, TeamRole
from models_app.usage import OTHER, Usage, UsageQuestion, UsedThing
from models_app.usage_charts import Chart, Heatmap
from models_app.usage_forms import Asked
from models_app.usage_periods import Period

MOST_ROWS: Final = 20
_PERCENT: Final = 100
# What is shown first where nobody says what to group by.
_FITTING: Final = {"own": ("model", "key"), "team": ("model", "user"), "all": ("model", "user")}
_BY_ID: Final = frozenset({"key", "user", "team"})
_TITLES: Final = {
    "model": "By model",
    "key": "By key",
    "user": "By user",
    "team": "By team",
    "dialect": "By dialect",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A total and the same of the time before; `percent` None: there was nothing before."""

    name: str
    value: int
    before: int

    @property
    def percent(self) -> int | None:
        """How much more it is, in percent of what was before."""
        if not self.before:
            return None
        return round((self.value - self.before) * _PERCENT / self.before)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a breakdown. `flag`: deleted, revoked, expired; `filter`: what narrows to it."""

    usage: Usage
    percent: float
    flag: str = ""
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Who or what used most; `more` is how many lines are left out."""

    group_by: str
    title: str
    lines: tuple[Line, ...]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of the page but the limits."""

    period: Period
    granularity: str
    figures: dict[str, Figure]
    chart: Chart
    heatmap: Heatmap
    breakdowns: tuple[Breakdown, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was used in all that is shown."""
        return not self.figures["requests"].value and not self.heatmap.active_days


def read(by: Principal, asked: Asked) -> Overview:
    """Return what was used. Raises Forbidden, TeamNotFound."""
    question, period = asked.question, asked.period
    granularity = period.granularity(asked.granularity)
    rows = usage.sums(by, question, group_by=granularity)
    since, until = period.before
    before = usage.sums(by, replace(question, since=since, until=until))
    groups = (asked.group_by,) if asked.group_by else _FITTING[asked.scope]
    return Overview(
        period=period,
        granularity=granularity,
        figures=_figures(usage.total(rows), usage.total(before)),
        chart=usage_charts.chart(rows, list(period.beginnings(granularity)), granularity),
        heatmap=_year(by, question, period.now),
        breakdowns=tuple(_breakdown(by, asked, group_by) for group_by in groups),
    )


def teams_of(by: Principal) -> list[str]:
    """Return the teams whose use somebody may see because they look after them."""
    return [place.name for place in by.teams if place.role.reaches(TeamRole.MAINTAINER)]


def _figures(now: Usage, before: Usage) -> dict[str, Figure]:
    return {
        name: Figure(name, getattr(now, name), getattr(before, name))
        for name in ("requests", "failed", "tokens_in", "tokens_out", "tokens_cached", "compute_us")
    }


def _year(by: Principal, question: UsageQuestion, now: datetime) -> Heatmap:
    whole = replace(question, since=usage_charts.first_moment(now.date()), until=None)
    return usage_charts.heatmap(usage.sums(by, whole, group_by="day"), now.date())


# ------------------------------------------------------------------ who and what


def _breakdown(by: Principal, asked: Asked, group_by: str) -> Breakdown:
    if group_by in _BY_ID:
        things = usage.things(by, asked.question, group_by=group_by)
    else:
        rows = usage.sums(by, asked.question, group_by=group_by)
        things = [UsedThing(row, 0) for row in rows]
    most = max((_tokens(thing.usage) for thing in things), default=0)
    shown = things[:MOST_ROWS]
    lines = _lines(shown, group_by, asked.scope, max(1, most))
    return Breakdown(group_by, _TITLES[group_by], tuple(lines), len(things) - len(shown))


def _lines(things: Sequence[UsedThing], group_by: str, scope: str, most: int) -> Iterable[Line]:
    states = _states(group_by, [thing.number for thing in things if thing.number])
    for thing in things:
        name = thing.usage.group
        gone = ("deleted", name if group_by == "user" else "")  # what is left of their name
        flag, narrows = states.get(thing.number, gone) if thing.number else ("", "")
        if group_by not in _BY_ID or (group_by == "user" and scope == "team"):
            narrows = "" if name == OTHER and scope == "team" else name
        if group_by == "key" and scope == "team":
            narrows = ""  # a key is asked for by its prefix, which is its owner's to know
        yield Line(thing.usage, _tokens(thing.usage) * _PERCENT / most, flag, narrows)


def _states(group_by: str, numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Return the flag of each that is there still, and what narrows to it."""
    if group_by == "key":
        keys = ApiKey.objects.filter(pk__in=numbers)
        return {key.pk: (_key_flag(key), key.prefix) for key in keys}
    table = {"user": (User, "username"), "team": (Team, "name")}.get(group_by)
    if table is None or not numbers:
        return {}
    rows = table[0].objects.filter(pk__in=numbers).values_list("pk", table[1])  # type: ignore[attr-defined]
    return {number: ("", name) for number, name in rows}


def _key_flag(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= timezone.now() else ""


def _tokens(used: Usage) -> int:
    return used.tokens_in + used.tokens_out
