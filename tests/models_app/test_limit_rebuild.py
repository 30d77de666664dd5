"""What had been used is read from the ledger where Redis does not know."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from redis.asyncio import Redis

from models_app import ledger, limit_rebuild, limit_rules, limits
from models_app.errors import LimitsUnavailable, QuotaExceeded, RateLimited
from models_app.ledger_journal import Begin, End, Figures
from models_app.limit_kinds import Limit, Period, Unit
from models_app.limit_rules import NewRule
from models_app.limit_store import Attempt, Spec
from models_app.models import LedgerHour, LimitRule
from models_app.permissions import CredentialKind, Principal, TeamPlace, TeamRole
from tests.limited import NOON_MS, redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

MODEL = "registry.ollama.ai/library/llama:1b"
CALLER = Principal(
    user_id=7,
    username="alice",
    is_admin=False,
    kind=CredentialKind.KEY,
    key_id=9,
    team=TeamPlace(3, "vision", TeamRole.MEMBER),
)
ADMIN = Principal(user_id=1, username="root", is_admin=True, kind=CredentialKind.SESSION)
LONG_AGO = timedelta(minutes=5)


def now() -> datetime:
    """Return what it is by the clock of the limits."""
    return datetime.fromtimestamp(limits._now_ms() / 1000, UTC)


def write_row(
    request_id: str,
    tokens: int,
    *,
    ago: timedelta = LONG_AGO,
    outcome: str = "done",
    **changes: Any,
) -> None:
    """Write a request of the caller into the ledger."""
    at = now() - ago
    at_us = int(at.timestamp() * 1_000_000)
    who = {"user_id": 7, "team_id": 3, "key_id": 9, "model_name": "llama:1b", **changes}
    begin = Begin(request_id=request_id, at_us=at_us, **who)
    figures = Figures(tokens_in=tokens - 1, tokens_out=1)
    end = End(request_id=request_id, at_us=at_us, outcome=outcome, figures=figures)
    ledger.write([(begin, end)])


@pytest.fixture
async def site(
    transactional_db: None, settings: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """A site whose Redis knows nothing; nobody has to wait for rows."""
    monkeypatch.setattr(limit_rebuild, "WRITTEN_MS", 0)
    settings.REDIS_URL = redis_url
    yield settings
    await limits.close()


async def lose_redis(settings: Any) -> None:
    async with Redis.from_url(settings.REDIS_URL) as client:
        await client.flushall()


async def left(tokens: int = 0, **asked: Any) -> int:
    """Return how many tokens are left behind a request that takes some."""
    charge = await limits.reserve(CALLER, tokens=tokens, model=MODEL, **asked)
    return int(charge.headers["x-ratelimit-remaining-tokens"])


async def put(subject: str, name: str = "", *, amount: int = 1000, period: str = "day") -> None:
    new = NewRule(subject=subject, name=name, unit="tokens", period=period, amount=amount)
    await sync_to_async(limit_rules.put_rule)(ADMIN, new)


@pytest.mark.parametrize("period", ["DAY", "MONTH"])
async def test_lost_sums_are_those_of_the_ledger(site: Any, period: str) -> None:
    setattr(site, f"TOKENS_PER_{period}", 1000)
    await sync_to_async(write_row)("one", 300, ago=timedelta())
    await sync_to_async(write_row)("two", 200, ago=timedelta())
    await sync_to_async(write_row)("of another", 400, ago=timedelta(), user_id=8)

    assert await left() == 500


async def test_what_was_used_before_the_period_is_over(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    await sync_to_async(write_row)("yesterday", 300, ago=timedelta(days=1))

    assert await left() == 1000


async def test_lost_minute_remembers_what_has_not_drained(site: Any) -> None:
    site.TOKENS_PER_MINUTE = 600
    await sync_to_async(write_row)("half a minute ago", 600, ago=timedelta(seconds=30))

    assert 290 <= await left() <= 400


async def test_request_that_is_settled_after_its_row_is_counted_once(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    charge = await limits.reserve(CALLER, tokens=100)
    await lose_redis(site)
    await sync_to_async(write_row)(charge.request_id, 40, ago=timedelta())
    before = await left()
    charge.used_tokens = 40
    await charge.settle_soon()

    assert (before, await left()) == (960, 960)


async def test_request_that_is_settled_before_its_row_is_counted_once(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    charge = await limits.reserve(CALLER, tokens=100)
    await lose_redis(site)
    charge.used_tokens = 40
    await charge.settle_soon()
    await sync_to_async(write_row)(charge.request_id, 40, ago=timedelta())

    assert await left() == 960


async def test_what_is_under_way_is_held_again(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.TOKENS_PER_DAY = 1000
    charge = await limits.reserve(CALLER, tokens=100)
    await lose_redis(site)
    monkeypatch.setattr(limits, "_now_ms", lambda: NOON_MS + 1)  # another one by when it began
    await limits._store().renew(now_ms=limits._now_ms())
    held = await left()
    charge.used_tokens = 40
    await charge.settle_soon()

    assert (held, await left()) == (900, 960)


async def test_dead_process_is_settled_from_its_record(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    record = (await limits.reserve(CALLER, tokens=100)).record()
    assert record is not None
    is_settled = await limits.settle_record(record, used_tokens=30, ended_ms=None)
    again = await limits.settle_record(record, used_tokens=30, ended_ms=None)

    assert (is_settled, again, await left()) == (True, True, 970)


async def test_row_of_a_dead_process_that_was_told_is_not_settled_twice(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    charge = await limits.reserve(CALLER, tokens=100)
    record = charge.record()
    assert record is not None
    await lose_redis(site)
    limits._store()._open.clear()  # nobody lives who would hold it again
    await sync_to_async(write_row)(charge.request_id, 30, ago=LONG_AGO, outcome="lost")
    before = await left()
    await limits.settle_record(record, used_tokens=30, ended_ms=None)

    assert (before, await left()) == (970, 970)


@pytest.mark.parametrize("ago_s", [0, 59, 61, 300])
@pytest.mark.parametrize("unit", ["tokens", "requests"])
async def test_what_ended_in_a_long_outage_is_not_counted_twice(
    site: Any, unit: str, ago_s: int
) -> None:
    """Its row is told by the ledger, and it is settled after that, however long it had to wait."""
    now_ms = limits._now_ms()
    spec = Spec(key="k", name="", unit=unit, amount=1000, begins=0, ends=2**52, subject="user:7")
    attempt = Attempt(call="a", attempt="a", specs=(spec,))
    store = limits._store()
    write = sync_to_async(write_row)
    await write("a", 40, ago=timedelta(seconds=ago_s))
    [told] = await store.look([spec], now_ms=now_ms)
    used = {"tokens": 40, "requests": 1}
    await store.settle_for(attempt, used, now_ms=now_ms, ended_ms=now_ms - ago_s * 1000)
    [settled] = await store.look([spec], now_ms=now_ms)

    assert told.remaining == settled.remaining == 1000 - used[unit]


async def test_what_began_without_redis_counts_though_the_past_was_told_before(site: Any) -> None:
    site.TOKENS_PER_DAY = 1000
    bill = (await limits.reserve(CALLER, tokens=1)).record()
    assert bill is not None
    uncounted = {**bill, "call": "b", "attempt": "b"}
    await limits.settle_record(uncounted, used_tokens=40, ended_ms=limits._now_ms())

    assert await left() == 1000 - 1 - 40


@pytest.mark.parametrize("subject", ["site", "team:3", "user:7", "key:9"])
@pytest.mark.parametrize("period", [Period.MONTH, Period.MINUTE])
def test_rows_are_found_by_their_time_however_many_somebody_has(
    db: None, subject: str, period: Period
) -> None:
    now_ms = limits._now_ms()
    spec = Limit(subject, Unit.TOKENS, period, 1000).spec(now_ms)
    with CaptureQueriesContext(connection) as asked:
        limit_rebuild._read(spec, now_ms)
    [query] = [each["sql"] for each in asked if "ledgerentry" in each["sql"]]
    if connection.vendor != "sqlite":
        pytest.skip("what an empty table of PostgreSQL is searched by tells nothing")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query}")
        plan = [row[3] for row in cursor.fetchall() if "ledgerentry" in row[3]]

    assert plan
    assert all("began_at>" in step or "ended_at>" in step for step in plan), plan
    assert all("_id=" not in step for step in plan), plan


async def test_new_limit_counts_what_was_used_before_it(site: Any) -> None:
    site.REQUESTS_PER_MINUTE = 100
    await limits.reserve(CALLER, tokens=1)
    await sync_to_async(write_row)("one", 300, ago=timedelta())
    await put("each user")

    assert await left() == 700


async def test_limit_that_is_set_again_counts_what_was_used_without_it(site: Any) -> None:
    await put("each user")
    assert await left() == 1000
    rule = await LimitRule.objects.aget()
    await sync_to_async(limit_rules.remove_rule)(ADMIN, rule.pk)
    await sync_to_async(write_row)("meanwhile", 300, ago=timedelta())
    await put("each user")

    assert await left() == 700


@pytest.mark.parametrize(
    ("subject", "others"),
    [
        ("site", {}),
        ("team:3", {"team_id": 4}),
        ("user:7", {"user_id": 8}),
        ("key:9", {"key_id": 10}),
        ("model:registry.ollama.ai/library/llama", {"model_name": "llama2:1b"}),
        ("model:registry.ollama.ai/library/llama", {"model_name": "bob/llama:1b"}),
    ],
)
def test_every_subject_has_its_own_past(db: None, subject: str, others: dict[str, Any]) -> None:
    now_ms = limits._now_ms()
    write_row("own", 300, ago=timedelta())
    write_row("other", 50, ago=timedelta(), **others)
    spec = Limit(subject, Unit.TOKENS, Period.MONTH, 1000).spec(now_ms)

    assert limit_rebuild._read(spec, now_ms).fill == (300 if others else 350)


def test_model_is_known_by_its_full_name_too(db: None) -> None:
    now_ms = limits._now_ms()
    write_row("short", 300, ago=timedelta(), model_name="alice/Llama:1b")
    write_row("full", 40, ago=timedelta(), model_name="registry.ollama.ai/alice/llama:2b")
    subject = "model:registry.ollama.ai/alice/llama"
    spec = Limit(subject, Unit.TOKENS, Period.DAY, 1000).spec(now_ms)

    assert limit_rebuild._read(spec, now_ms).fill == 340


def test_requests_are_counted_by_the_row(db: None) -> None:
    now_ms = limits._now_ms()
    for number in range(3):
        write_row(f"r{number}", 10, ago=timedelta())
    spec = Limit("user:7", Unit.REQUESTS, Period.DAY, 1000).spec(now_ms)

    assert limit_rebuild._read(spec, now_ms).fill == 3


async def test_rows_that_are_being_written_are_waited_for(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float] = []

    async def sleep(seconds: float) -> None:
        waited_s.append(seconds)
        await sync_to_async(write_row)("late", 300, ago=timedelta())

    monkeypatch.setattr(limit_rebuild, "WRITTEN_MS", 60_000)
    monkeypatch.setattr(limit_rebuild, "asyncio", SimpleNamespace(sleep=sleep))
    site.TOKENS_PER_DAY = 1000

    assert await left() == 700
    assert 0 < waited_s[0] <= 60


async def test_past_that_cannot_be_read_lets_a_few_through_and_then_nobody(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError

    site.TOKENS_PER_DAY = 1000
    monkeypatch.setattr(limits, "_grace", limits._Grace())
    monkeypatch.setattr(limit_rebuild, "_read", fail)
    for _ in range(limits.GRACE_REQUESTS):
        await limits.reserve(CALLER, tokens=1)

    with pytest.raises(LimitsUnavailable):
        await limits.reserve(CALLER, tokens=1)


async def test_log_tells_that_it_was_the_ledger_that_could_not_be_read(
    site: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError

    site.TOKENS_PER_DAY = 1000
    monkeypatch.setattr(limits, "_grace", limits._Grace())
    monkeypatch.setattr(limit_rebuild, "_read", fail)
    await limits.reserve(CALLER, tokens=1)

    assert "the ledger does not answer" in caplog.text
    assert "Redis does not answer" not in caplog.text


async def test_used_up_day_is_still_used_up_when_redis_was_lost(site: Any) -> None:
    site.TOKENS_PER_DAY = 100
    charge = await limits.reserve(CALLER, tokens=100)
    charge.used_tokens = 100
    await charge.settle_soon()
    await sync_to_async(write_row)(charge.request_id, 100, ago=timedelta())
    await lose_redis(site)

    with pytest.raises(QuotaExceeded):
        await limits.reserve(CALLER, tokens=1)


async def test_full_minute_is_still_full_when_redis_was_lost(site: Any) -> None:
    site.TOKENS_PER_MINUTE = 100
    charge = await limits.reserve(CALLER, tokens=100)
    charge.used_tokens = 100
    await charge.settle_soon()
    await sync_to_async(write_row)(charge.request_id, 100, ago=timedelta())
    await lose_redis(site)

    with pytest.raises(RateLimited):
        await limits.reserve(CALLER, tokens=50)


async def test_hours_alone_are_enough_for_sums(site: Any) -> None:
    """Rows are removed after a time; the sums of their hours stay."""
    site.TOKENS_PER_MONTH = 1000
    begins = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await LedgerHour.objects.acreate(hour=begins, user_id=7, requests=2, tokens_in=100)

    assert await left() == 900
