"""What was used: sums and rows of the ledger, for those who may see them.

Everybody sees their own; maintainers and owners what counts to their team; auditors and
administrators all of it. Sums come from the longest times that are added up already
(`models_app.usage_sums`), so a year of a busy site is a matter of milliseconds; days and months
are those of UTC, whatever the site's zone. In a team's figures the models of single people are
called `other`: whoever pays for their use need not know what they call them. Sync. Knows no HTTP.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Q, QuerySet

from models_app import usage_sums
from models_app.authority import require_auditor, require_team_role
from models_app.errors import LedgerEntryNotFound, TeamNotFound
from models_app.ledger_sums import SUMS
from models_app.models import (
    ApiKey,
    LedgerAxis,
    LedgerEntry,
    LedgerSpan,
    LedgerTotal,
    Team,
    User,
)
from models_app.permissions import Principal, TeamRole
from models_app.site_names import findable
from ollamasite.errors import BadRequest

# What a model is called that is none of the asker's business.
OTHER: Final = "other"
_AT_ONCE: Final = 1000
_MOST_DIGITS: Final = 18
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuestion:
    """Whose use is asked for, and of what time; what is empty does not narrow.

    `team` asks for what counts to a team, `is_everybodys` for all of the site; neither: for one's
    own. `key` is a key's prefix. Sums are of whole hours: the one of `since` is in it.
    """

    since: datetime | None = None
    until: datetime | None = None
    team: str = ""
    is_everybodys: bool = False
    user: str = ""
    key: str = ""
    model: str = ""
    dialect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Sums of one group: an hour, a day, a model, …; `group` is empty for the whole."""

    group: str
    requests: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    compute_us: int = 0


@dataclass(frozen=True, slots=True)
class UsedThing:
    """Sums of a key, a user or a team; `number` is its id, 0 for none and for all else."""

    usage: Usage
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request, as the asker may see it. Times are microseconds; `seed` None: none was asked."""

    request_id: str
    began_at: datetime
    ended_at: datetime
    user: str
    team: str
    key: str
    credential: str
    address: str | None
    model: str
    digest: str
    dialect: str
    kind: str
    priority: str
    outcome: str
    error_code: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    queue_us: int
    load_us: int
    prefill_us: int
    decode_us: int
    compute_us: int
    parameters: dict[str, bool | int | float]
    seed: int | None
    node: str


# The column of the ledger for each field of a record.
_COLUMNS: Final = {each.name: each.name for each in fields(RequestRecord)} | {
    "user": "user_name",
    "team": "team_name",
    "key": "key_name",
    "model": "model_name",
    "digest": "model_digest",
}
REQUEST_COLUMNS: Final = tuple(_COLUMNS.values())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of rows ends: the next one begins behind it."""

    began_us: int
    number: int

    @staticmethod
    def parse(text: str) -> "Place | None":
        """Return the place that a text tells, None for an empty one. Raises BadRequest."""
        if not text:
            return None
        parts = text.split("-")
        are_numbers = all(
            part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts
        )
        if len(parts) != 2 or not are_numbers or int(parts[0]) > _LAST_US:  # noqa: PLR2004 - two
            raise BadRequest('"after" must be the "next" of the page before')
        return Place(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.began_us}-{self.number}"


Groups = Callable[[dict[str, Any]], str]


# By its name: the columns that a group is made of, and what it is called.
_THINGS: Final[dict[str, tuple[tuple[str, ...], Groups]]] = {
    "": ((), lambda row: ""),
    "model": (("model_name",), lambda row: str(row["model_name"])),
    "key": (("key_id", "key_name"), lambda row: str(row["key_name"])),
    "user": (("user_id", "user_name"), lambda row: str(row["user_name"])),
    "team": (("team_id", "team_name"), lambda row: str(row["team_name"])),
    "dialect": (("dialect",), lambda row: str(row["dialect"])),
}
_TIMES: Final[dict[str, tuple[LedgerSpan, Groups]]] = {
    "hour": (LedgerSpan.HOUR, lambda row: f"{row['at']:%Y-%m-%dT%H:00:00Z}"),
    "day": (LedgerSpan.DAY, lambda row: f"{row['at']:%Y-%m-%d}"),
    "month": (LedgerSpan.MONTH, lambda row: f"{row['at']:%Y-%m}"),
}
GROUPS: Final = (*_TIMES, *filter(None, _THINGS))


def sums(by: Principal | None, question: UsageQuestion, *, group_by: str = "") -> list[Usage]:
    """Return the sums that were asked for: times in order, all else the most tokens first.

    `by` None is whoever has a shell on this machine. `group_by` is one of GROUPS, or empty for the
    whole. Raises Forbidden, TeamNotFound.
    """
    view = _view_of(by, question)
    found: dict[str, dict[str, int]] = {} if group_by else {"": dict.fromkeys(SUMS, 0)}
    for group, row in _summed(view, question, group_by):
        _add(found.setdefault(group, dict.fromkeys(SUMS, 0)), row)
    usages = [Usage(group=group, **amounts) for group, amounts in found.items()]
    if group_by in _TIMES:
        return sorted(usages, key=lambda usage: usage.group)
    return sorted(usages, key=_most_tokens)


def things(by: Principal | None, question: UsageQuestion, *, group_by: str) -> list[UsedThing]:
    """Return the sums of things that may share a name, the most tokens first.

    `group_by` is `key`, `user` or `team`; `model` and `dialect` are known by their names alone.
    Raises Forbidden, TeamNotFound.
    """
    view = _view_of(by, question)
    found: dict[int | str, tuple[str, dict[str, int]]] = {}
    for group, row in _summed(view, question, group_by):
        number = row.get(f"{group_by}_id", group)
        _, amounts = found.setdefault(number, (group, dict.fromkeys(SUMS, 0)))
        _add(amounts, row)
    told = [
        UsedThing(Usage(group=group, **amounts), number if isinstance(number, int) else 0)
        for number, (group, amounts) in found.items()
    ]
    return sorted(told, key=lambda thing: _most_tokens(thing.usage))


def _summed(
    view: "_View", question: UsageQuestion, group_by: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of a group and some of its sums; a group may come again."""
    longest, name_of = _TIMES.get(group_by, (None, None))
    columns, thing_name_of = _THINGS.get(group_by, _THINGS[""])
    name_of = name_of or thing_name_of
    rows = usage_sums.rows(view.narrowed, columns, question.since, question.until, longest=longest)
    for row in rows:
        yield view.shown(name_of(row)) if group_by == "model" else name_of(row), row


def _add(amounts: dict[str, int], row: dict[str, Any]) -> None:
    for name in SUMS:
        amounts[name] += row[name] or 0


def _most_tokens(usage: Usage) -> tuple[int, str]:
    return -usage.tokens_in - usage.tokens_out, usage.group


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of groups."""
    rows = list(usages)
    return Usage(group="", **{name: sum(getattr(row, name) for row in rows) for name in SUMS})


def page(
    by: Principal | None,
    question: UsageQuestion,
    *,
    limit: int,
    after: Place | None = None,
    outcome: str = "",
) -> tuple[list[RequestRecord], Place | None]:
    """Return a page of the rows, the newest first, and where the next one begins; None: it was all.

    `outcome`: those that ended so alone. Raises Forbidden, TeamNotFound.
    """
    view = _view_of(by, question)
    rows = _rows(view, question)
    if outcome:
        rows = rows.filter(outcome=outcome)
    if after is not None:
        # Not `before or (at and …)`: databases walk one end of an index, not two.
        at = _moment(after.began_us)
        rows = rows.filter(began_at__lte=at).exclude(began_at=at, pk__gte=after.number)
    found = list(rows.order_by("-began_at", "-pk")[: limit + 1])
    shown = found[:limit]
    more = Place(_us(shown[-1].began_at), shown[-1].pk) if len(found) > limit else None
    return [_record(row, view) for row in shown], more


def all_pages(
    by: Principal | None, question: UsageQuestion, *, outcome: str = ""
) -> Iterator[list[RequestRecord]]:
    """Yield all rows, a thousand at a time. Not one long query: nobody waits for a slow reader.

    Raises Forbidden, TeamNotFound at the first.
    """
    after: Place | None = None
    while True:
        records, after = page(by, question, limit=_AT_ONCE, after=after, outcome=outcome)
        yield records
        if after is None:
            return


def one(by: Principal, request_id: str) -> RequestRecord:
    """Return one request: of one's own, or where one may see it among the others.

    Raises LedgerEntryNotFound, also for one that is not the caller's to see.
    """
    row = LedgerEntry.objects.filter(request_id=findable(request_id)).first()
    if row is None:
        raise LedgerEntryNotFound
    if row.user_id == by.user_id or (by.is_auditor and by.is_for_account):
        return _record(row, _View(narrowed=Q()))
    place = next((place for place in by.teams if place.team_id == row.team_id), None)
    if place is None or not place.role.reaches(TeamRole.MAINTAINER):
        raise LedgerEntryNotFound
    return _record(row, _as_team(by, Q()))


# ------------------------------------------------------------------ who may see what


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What of the ledger is asked for and may be seen."""

    narrowed: Q
    sees_addresses: bool = True
    # Namespaces whose models may be named; None: all.
    namespaces: frozenset[str] | None = None

    def shown(self, model_name: str) -> str:
        """Return what a model is called for the asker. A bare name is the library's."""
        namespace, slash, _ = model_name.rpartition("/")
        if self.namespaces is None or not slash or namespace.lower() in self.namespaces:
            return model_name
        return OTHER


def _view_of(by: Principal | None, question: UsageQuestion) -> _View:
    if question.is_everybodys:
        require_auditor(by)
        view = _View(narrowed=Q())
    elif question.team:
        view = _team_view(by, question.team)
    else:
        view = _View(narrowed=Q() if by is None else Q(user_id=by.user_id))
    if question.model and view.shown(question.model) != question.model:
        # What it is called is not told, so there is nothing of that name.
        return replace(view, narrowed=Q(pk__in=[]))
    return replace(view, narrowed=view.narrowed & _narrowed(question))


def _team_view(by: Principal | None, name: str) -> _View:
    sees_all = by is None or (by.is_auditor and by.is_for_account)
    if not sees_all:
        require_team_role(by, name, TeamRole.MAINTAINER)
    team = Team.objects.filter(name__iexact=name).first()
    if team is None:
        raise TeamNotFound(name)
    of_team = Q(team_id=team.pk)
    if by is None or sees_all:
        return _View(narrowed=of_team)
    return _as_team(by, of_team)


def _as_team(by: Principal, narrowed: Q) -> _View:
    own = {by.namespace.lower(), *(place.name.lower() for place in by.teams)}
    return _View(narrowed=narrowed, sees_addresses=False, namespaces=frozenset(own))


def _narrowed(question: UsageQuestion) -> Q:
    narrowed = Q()
    if question.user:
        narrowed &= Q(user_id__in=_users_called(question.user))
    if question.key:
        keys = ApiKey.objects.filter(prefix=question.key)
        narrowed &= Q(key_id__in=list(keys.values_list("pk", flat=True)))
    if question.model:
        narrowed &= Q(model_name=question.model)
    if question.dialect:
        narrowed &= Q(dialect=question.dialect)
    return narrowed


def _users_called(name: str) -> list[int]:
    """Return the ids of whoever has a name. Of those who are gone the ledger alone knows them."""
    users = User.objects.filter(username__iexact=name)
    gone = LedgerTotal.objects.filter(
        axis=LedgerAxis.USER, span=LedgerSpan.MONTH, user_name=name, user_id__gt=0
    )
    return list(users.values_list("pk", flat=True)) or list(
        gone.order_by().values_list("user_id", flat=True).distinct()
    )


# ------------------------------------------------------------------ rows


def _rows(view: _View, question: UsageQuestion) -> QuerySet[LedgerEntry]:
    rows = LedgerEntry.objects.filter(view.narrowed)
    if question.since is not None:
        rows = rows.filter(began_at__gte=question.since)
    if question.until is not None:
        rows = rows.filter(began_at__lt=question.until)
    return rows


def _record(row: LedgerEntry, view: _View) -> RequestRecord:
    told = {name: getattr(row, column) for name, column in _COLUMNS.items()}
    shown = view.shown(row.model_name)
    if shown != row.model_name:
        told |= {"model": shown, "digest": ""}
    if not view.sees_addresses:
        told["address"] = None
    return RequestRecord(**told)


def _us(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, tz=UTC).replace(microsecond=us % 1_000_000)
