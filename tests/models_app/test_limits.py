"""Limits of use, counted in a real Redis: by the clock of the test, in any order of events."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models_app import limit_headers, limit_kinds, limit_store, limits
from models_app.errors import LimitsUnavailable, QuotaExceeded, RateLimited, TooManyAtOnce
from models_app.limit_kinds import Limit, Period, Unit
from models_app.limit_store import (
    LEASE_MS,
    MAX_TRIES,
    OPEN_MS,
    RESUMED_MS,
    Attempt,
    LimitStore,
    Past,
    PastUnknown,
    Reply,
    Spec,
    StoreLost,
)
from models_app.permissions import CredentialKind, Principal
from ollamasite.error_responses import Dialect
from tests.limited import SetLimits, no_rules, redis_socket, redis_url, set_limits

__all__ = ["no_rules", "redis_socket", "redis_url", "set_limits"]

NOON_MS = 20_000 * 86_400_000 + 43_200_000
MINUTE_MS = 60_000
HOLDERS = limit_store.PREFIX + "holders"
CALLER = Principal(user_id=7, username="alice", is_admin=False, kind=CredentialKind.KEY)


class Counter:
    """A store, with a clock and names of tries of its own."""

    def __init__(self, store: LimitStore, *specs: Spec) -> None:
        self.store = store
        self.specs = specs
        self.now_ms = NOON_MS
        self._number = 0

    async def reserve(self, tokens: int, *, call: str = "") -> tuple[Reply, str]:
        self._number += 1
        attempt = f"try{self._number}"
        named = self.attempt(call or attempt, attempt, repeats=bool(call))
        amounts = {"requests": 1, "tokens": tokens, "parallel": 1}
        reply = await self.store.reserve(named, amounts, now_ms=self.now_ms)
        return reply, attempt

    def attempt(self, call: str, attempt: str, *, repeats: bool = False) -> Attempt:
        return Attempt(call=call, attempt=attempt, specs=self.specs, repeats=repeats)

    async def settle(
        self, reserved: tuple[Reply, str], tokens: int, *, repeats: bool = False
    ) -> None:
        reply, attempt = reserved
        named = self.attempt(reply.call, attempt, repeats=repeats)
        await self.store.settle(named, {"requests": 1, "tokens": tokens}, now_ms=self.now_ms)

    async def remaining(self) -> list[int]:
        """Return what each limit leaves, asked in a way that changes nothing."""
        huge = {"requests": 10**12, "tokens": 10**12}
        probe = self.attempt("probe", "probe")
        reply = await self.store.reserve(probe, huge, now_ms=self.now_ms)
        return [state.remaining for state in reply.states]


def is_refused(reserved: tuple[Reply, str]) -> bool:
    return any(state.wait for state in reserved[0].states)


def wait_of(reserved: tuple[Reply, str]) -> int:
    return max(state.wait for state in reserved[0].states)


def minute(amount: int, unit: str = "tokens") -> Spec:
    return Spec(key=f"u:{unit}:minute", name="", unit=unit, amount=amount, period=MINUTE_MS)


def day(amount: int) -> Spec:
    ends = 20_001 * 86_400_000
    return Spec(key="u:tokens:day", name="", unit="tokens", amount=amount, ends=ends)


def slots(amount: int) -> Spec:
    return Spec(key="u:parallel:now", name="", unit="parallel", amount=amount)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[LimitStore]:
    made = LimitStore(redis_url)
    yield made
    await made.close()


async def test_all_of_a_limit_can_be_used_at_once(store: LimitStore) -> None:
    counter = Counter(store, minute(3, "requests"))

    found = [is_refused(await counter.reserve(0)) for _ in range(4)]

    assert found == [False, False, False, True]


async def test_the_told_wait_is_exact(store: LimitStore) -> None:
    counter = Counter(store, minute(3, "requests"))
    for _ in range(3):
        await counter.reserve(0)
    wait_ms = wait_of(await counter.reserve(0))
    counter.now_ms += wait_ms - 1
    too_early = is_refused(await counter.reserve(0))
    counter.now_ms += 1

    assert (wait_ms, too_early) == (20_000, True)
    assert not is_refused(await counter.reserve(0))


async def test_what_was_held_and_not_used_is_given_back(store: LimitStore) -> None:
    counter = Counter(store, minute(100), day(100))
    first, second = await counter.reserve(50), await counter.reserve(50)
    await counter.settle(second, 1)
    await counter.settle(first, 2)

    assert await counter.remaining() == [97, 97]


async def test_what_has_drained_cannot_be_given_back_a_second_time(store: LimitStore) -> None:
    counter = Counter(store, minute(100))
    first = await counter.reserve(100)
    counter.now_ms += MINUTE_MS
    second = await counter.reserve(100)
    await counter.settle(first, 0)

    assert is_refused(await counter.reserve(1))
    await counter.settle(second, 40)
    assert await counter.remaining() == [60]


async def test_more_than_was_reserved_is_owed(store: LimitStore) -> None:
    counter = Counter(store, minute(60), day(1000))
    await counter.settle(await counter.reserve(10), 90)

    refused = await counter.reserve(1)

    assert wait_of(refused) == 31_000
    assert await counter.remaining() == [0, 910]


async def test_settling_twice_counts_once(store: LimitStore) -> None:
    counter = Counter(store, day(100))
    reserved = await counter.reserve(50)
    await counter.settle(reserved, 20)
    await counter.settle(reserved, 20)

    assert await counter.remaining() == [80]


async def test_try_that_was_given_up_before_it_came_holds_nothing(store: LimitStore) -> None:
    counter = Counter(store, day(100), slots(1))
    await store.settle(counter.attempt("try1", "try1"), {}, now_ms=NOON_MS)
    late, _ = await counter.reserve(80)

    assert late.states == []
    assert await counter.remaining() == [100, 1]


async def test_reservation_of_a_dead_process_ends_by_itself(store: LimitStore) -> None:
    counter = Counter(store, day(100))
    await counter.reserve(80)
    counter.now_ms += OPEN_MS
    assert is_refused(await counter.reserve(101))

    assert await counter.remaining() == [100]


async def test_late_settlement_counts_after_the_reservation_has_ended(store: LimitStore) -> None:
    counter = Counter(store, day(100))
    reserved = await counter.reserve(80)
    counter.now_ms += OPEN_MS
    await counter.remaining()
    await counter.settle(reserved, 30)

    assert await counter.remaining() == [70]


async def test_a_refused_try_takes_nothing_from_the_other_limits(store: LimitStore) -> None:
    counter = Counter(store, minute(10, "requests"), day(100))
    refused = await counter.reserve(101)

    assert is_refused(refused)
    assert await counter.remaining() == [10, 100]


async def test_tries_of_one_call_count_as_one_and_cost_the_dearest(store: LimitStore) -> None:
    counter = Counter(store, minute(10, "requests"), minute(100), day(100))
    for used in (20, 35, 10):
        await counter.settle(await counter.reserve(50, call="c"), used, repeats=True)

    assert await counter.remaining() == [9, 65, 65]


async def test_overlapping_tries_hold_the_dearest(store: LimitStore) -> None:
    counter = Counter(store, minute(10, "requests"), day(100))
    first = await counter.reserve(60, call="c")
    second = await counter.reserve(80, call="c")
    held = await counter.remaining()
    await counter.settle(second, 5, repeats=True)
    still_held = await counter.remaining()
    await counter.settle(first, 7, repeats=True)

    assert (held, still_held) == ([9, 20], [9, 40])
    assert await counter.remaining() == [9, 93]


async def test_a_key_used_for_ever_is_no_way_around(store: LimitStore) -> None:
    counter = Counter(store, minute(100, "requests"))
    for _ in range(MAX_TRIES + 3):
        await counter.settle(await counter.reserve(0, call="c"), 0, repeats=True)

    assert await counter.remaining() == [96]


async def test_clock_that_goes_back_gives_nothing(store: LimitStore) -> None:
    counter = Counter(store, minute(1, "requests"))
    await counter.reserve(0)
    counter.now_ms -= 10 * MINUTE_MS
    refused = is_refused(await counter.reserve(0))
    counter.now_ms += 10 * MINUTE_MS

    assert refused
    assert is_refused(await counter.reserve(0))


async def test_large_limits_are_counted_exactly(store: LimitStore) -> None:
    counter = Counter(store, minute(limit_kinds.MOST), day(limit_kinds.MOST))
    for _ in range(3):
        await counter.settle(await counter.reserve(limit_kinds.MOST // 4), 1)

    assert await counter.remaining() == [limit_kinds.MOST - 3] * 2


@dataclass
class Use:
    """A call that was let through: what it was about to use, and has used so far."""

    at_ms: int
    reserved: int
    used: int | None = None


@pytest.mark.parametrize("seed", range(8))
async def test_no_order_of_events_breaks_a_limit(store: LimitStore, seed: int) -> None:
    """Reserve, settle, die: never over, never refused for nothing, nothing left behind."""
    chance = random.Random(seed)  # noqa: S311 - the same order each time
    amount, most_a_day = chance.choice([10, 100, 997]), chance.choice([400, 5000])
    counter = Counter(store, minute(amount), day(most_a_day))
    uses: list[Use] = []
    running: list[tuple[Use, tuple[Reply, str]]] = []
    for _ in range(200):
        counter.now_ms += chance.choice([0, 0, 1, 250, 3_000, 20_000])
        if running and chance.random() < 0.45:
            use, reserved = running.pop(chance.randrange(len(running)))
            use.used = chance.randint(0, use.reserved)
            await counter.settle(reserved, use.used)
            continue
        asked = chance.randint(1, amount)
        reserved = await counter.reserve(asked)
        if not is_refused(reserved):
            uses.append(Use(counter.now_ms, asked))
            running.append((uses[-1], reserved))
            continue
        held = sum(use.reserved if use.used is None else use.used for use in uses)
        is_day_full = held + asked > most_a_day
        assert is_day_full or _is_full(uses, asked, amount, counter.now_ms)
    assert _most_in_a_row([(use.at_ms, use.used or 0) for use in uses], amount) <= amount
    assert sum(use.used or 0 for use in uses) <= most_a_day

    # Those that still run die with their process.
    counter.now_ms += 2 * OPEN_MS
    used = sum(use.used or 0 for use in uses)
    assert is_refused(await counter.reserve(10**9))
    assert await counter.remaining() == [amount, most_a_day - used]


def _most_in_a_row(uses: list[tuple[int, int]], amount: int) -> float:
    """Return the fill of a bucket that drains `amount` a minute, at its highest."""
    fill, highest, last_ms = 0.0, 0.0, 0
    for at_ms, used in uses:
        fill = max(0.0, fill - (at_ms - last_ms) * amount / MINUTE_MS) + used
        highest, last_ms = max(highest, fill), at_ms
    return highest


def _is_full(uses: list[Use], asked: int, amount: int, now_ms: int) -> bool:
    """Whether even a bucket that gives nothing back before the end of a call would be full."""
    held = [(use.at_ms, use.reserved) for use in uses]
    return _most_in_a_row([*held, (now_ms, asked)], amount) > amount


async def test_requests_at_the_same_time_share_a_limit_exactly(
    store: LimitStore, redis_url: str
) -> None:
    other = LimitStore(redis_url)
    try:
        counters = [Counter(s, minute(50, "requests")) for s in (store, other)]
        counters[1]._number = 1000
        found = await asyncio.gather(*(counters[i % 2].reserve(0) for i in range(200)))
    finally:
        await other.close()

    assert sum(not is_refused(reserved) for reserved in found) == 50


# ------------------------------------------------------------------ what Redis does not know


async def test_past_is_told_once_by_however_many(redis_url: str) -> None:
    told = []

    async def past(spec: Spec, *_: int) -> Past:
        told.append(spec.key)
        await asyncio.sleep(0.05)
        return Past(spec=spec, fill=30)

    stores = [LimitStore(redis_url, past) for _ in range(2)]
    counters = [Counter(store, day(100)) for store in (*stores, *stores)]
    for number, counter in enumerate(counters):
        counter._number = 1000 * number
    found = await asyncio.gather(*(counter.reserve(10) for counter in counters))
    for store in stores:
        await store.close()

    assert len(told) == 2  # by each process once
    assert sorted(reply.states[0].remaining for reply, _ in found) == [30, 40, 50, 60]


async def test_what_is_held_is_held_again_even_where_there_is_no_room(redis_url: str) -> None:
    used = [0]

    async def past(spec: Spec, *_: int) -> Past:
        return Past(spec=spec, fill=used[0])

    store = LimitStore(redis_url, past)
    counter = Counter(store, day(100))
    reserved = await counter.reserve(40)
    async with Redis.from_url(redis_url) as client:
        await client.flushall()
    used[0] = 70
    counter.now_ms += 1
    await store.renew(now_ms=counter.now_ms)
    held = await counter.remaining()
    await counter.settle(reserved, 10)

    assert (held, await counter.remaining()) == ([0], [20])
    await store.close()


# ------------------------------------------------------------------ what is under way


async def test_slot_is_free_when_its_try_has_ended(store: LimitStore) -> None:
    counter = Counter(store, slots(2))
    first = await counter.reserve(0)
    await counter.reserve(0)
    refused = await counter.reserve(0)
    await counter.settle(first, 0)

    assert (is_refused(refused), wait_of(refused)) == (True, 1000)
    assert not is_refused(await counter.reserve(0))


async def test_every_open_try_of_a_call_takes_a_slot(store: LimitStore) -> None:
    counter = Counter(store, slots(2), minute(10, "requests"))
    await counter.reserve(0, call="c")
    await counter.reserve(0, call="c")

    assert is_refused(await counter.reserve(0, call="c"))


@pytest.fixture
async def other_store(redis_url: str) -> AsyncIterator[LimitStore]:
    """Another process."""
    made = LimitStore(redis_url)
    yield made
    await made.close()


async def test_slots_of_a_dead_process_are_free_when_its_lease_ends(
    store: LimitStore, other_store: LimitStore
) -> None:
    dead, living = Counter(store, slots(1), day(100)), Counter(other_store, slots(1), day(100))
    living._number = 1000
    await dead.reserve(60)
    living.now_ms += LEASE_MS - 1
    too_early = is_refused(await living.reserve(1))
    living.now_ms += 1

    assert too_early
    assert not is_refused(await living.reserve(1))
    # What it may have used is not given back so soon.
    assert (await living.remaining())[1] == 39


async def test_slots_of_a_process_that_renews_its_lease_stay_taken(
    store: LimitStore, other_store: LimitStore
) -> None:
    slow, other = Counter(store, slots(1), day(100)), Counter(other_store, slots(1), day(100))
    other._number = 1000
    reserved = await slow.reserve(60)
    found = []
    for _ in range(3 * OPEN_MS // 600_000):
        # Long pauses: whoever comes back from one takes its slots again.
        other.now_ms += 600_000
        await store.renew(now_ms=other.now_ms)
        found.append(is_refused(await other.reserve(1)))
    slow.now_ms = other.now_ms
    await slow.settle(reserved, 10)

    assert set(found) == {True}
    assert await other.remaining() == [1, 90]


async def test_lease_is_renewed_while_something_is_open(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_store, "_BEAT_S", 0.01)
    clock = Counter(LimitStore(redis_url), slots(1))
    store = LimitStore(redis_url, clock_ms=lambda: clock.now_ms)
    counter = Counter(store, slots(1))
    counter._number = 1000
    reserved = await counter.reserve(0)
    clock.now_ms += LEASE_MS - 1
    await _until_renewed(redis_url, clock.now_ms + LEASE_MS)
    clock.now_ms += LEASE_MS - 1
    is_held = is_refused(await clock.reserve(0))
    await counter.settle(reserved, 0)
    assert store._beats is not None
    await asyncio.wait([store._beats], timeout=60)

    assert is_held
    assert store._beats.done()
    await store.close()
    await clock.store.close()


async def _until_renewed(redis_url: str, ends_ms: int) -> None:
    async with Redis.from_url(redis_url) as client:
        while await client.zcount(HOLDERS, ends_ms, "+inf") == 0:
            await asyncio.sleep(0.01)


async def test_settlement_that_found_no_redis_is_made_good_later(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LimitStore(redis_url)
    counter = Counter(store, day(100), slots(1))
    reserved = await counter.reserve(80)
    with monkeypatch.context() as lost:
        lost.setattr(store, "_script", _lost_script)
        with pytest.raises(StoreLost):
            await counter.settle(reserved, 20)
    await store.renew(now_ms=counter.now_ms)

    assert await counter.remaining() == [80, 1]
    await store.close()


async def test_request_of_a_lost_redis_has_no_task_and_few_are_given_up_later(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_store, "_MOST_DOUBTFUL", 3)
    store = LimitStore(redis_url)
    counter = Counter(store, day(100), slots(9))
    ended, *left_open = [await counter.reserve(10) for _ in range(6)]
    with monkeypatch.context() as lost:
        lost.setattr(store, "_script", _lost_script)
        with pytest.raises(StoreLost):
            await counter.settle(ended, 4)
        for reply, attempt in left_open:  # as if it were not known whether Redis has heard
            del store._open[attempt]
            store.give_up(counter.attempt(reply.call, attempt))
    await store.renew(now_ms=counter.now_ms)

    assert await counter.remaining() == [100 - 4 - 2 * 10, 9 - 2]
    # Those nobody gives up end by themselves, though their holder lives.
    counter.now_ms += OPEN_MS
    await store.renew(now_ms=counter.now_ms)
    assert await counter.remaining() == [96, 9]
    await store.close()


async def test_try_stays_open_as_long_as_its_holder_has_it(
    redis_url: str, other_store: LimitStore
) -> None:
    slow, other = Counter(LimitStore(redis_url), slots(1)), Counter(other_store, slots(1))
    other._number = 1000
    reserved = await slow.reserve(0)
    for _ in range(3):
        other.now_ms += RESUMED_MS
        await slow.store.renew(now_ms=other.now_ms)

    assert is_refused(await other.reserve(0))
    slow.now_ms = other.now_ms
    await slow.settle(reserved, 0)
    assert await other.remaining() == [1]
    await slow.store.close()


async def test_settlement_whose_past_is_not_known_holds_up_no_other(redis_url: str) -> None:
    async def past(spec: Spec, *_: int) -> Past:
        if spec.key == "unknown":
            raise PastUnknown
        return Past(spec=spec)

    store = LimitStore(redis_url, past)
    known = Counter(store, day(100))
    unknown = Counter(store, Spec(key="unknown", name="", unit="tokens", amount=9, ends=2**52))
    unknown._number = 1000
    with pytest.raises(PastUnknown):
        await unknown.settle((Reply(call="a", states=[], missing=[], born=0), "a"), 1)
    reserved = await known.reserve(60)
    with pytest.MonkeyPatch.context() as lost:
        lost.setattr(store, "_script", _lost_script)
        with pytest.raises(StoreLost):
            await known.settle(reserved, 20)
    await store.renew(now_ms=known.now_ms)

    assert await known.remaining() == [80]
    await store.close()


async def _lost_script(*_: Any, **__: Any) -> Any:
    raise RedisError


# ------------------------------------------------------------------ for users, by the settings


async def test_without_limits_redis_is_not_asked(settings: Any, no_rules: None) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    charge = await limits.reserve(CALLER, tokens=10**9)

    charge.settle()
    assert charge.headers == {}


async def test_headers_tell_what_is_left(set_limits: SetLimits) -> None:
    set_limits(requests=6, tokens=6000)

    charge = await limits.reserve(CALLER, tokens=100)

    assert charge.headers == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5900",
        "x-ratelimit-reset-tokens": "1s",
    }


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (120, "120ms"),
        (1000, "1s"),
        (7660, "7.66s"),
        (360_000, "6m0s"),
        (3_605_500, "1h0m5.5s"),
    ],
)
def test_durations_are_written_as_openai_does(duration_ms: int, text: str) -> None:
    assert limit_headers.written(duration_ms) == text


async def test_a_request_larger_than_the_limit_passes_alone(set_limits: SetLimits) -> None:
    set_limits(tokens=100)

    charge = await limits.reserve(CALLER, tokens=5000)

    assert charge.headers["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited):
        await limits.reserve(CALLER, tokens=1)


async def test_settled_tokens_can_be_used_again(set_limits: SetLimits) -> None:
    set_limits(tokens_a_day=100)
    charge = await limits.reserve(CALLER, tokens=100)
    charge.used_tokens = 10
    await charge.settle_soon()

    again = await limits.reserve(CALLER, tokens=0)

    assert again.headers["x-ratelimit-remaining-tokens"] == "90"


async def test_used_up_day_is_another_refusal(set_limits: SetLimits) -> None:
    set_limits(requests=100, tokens_a_day=100)
    await limits.reserve(CALLER, tokens=100)

    with pytest.raises(QuotaExceeded) as caught:
        await limits.reserve(CALLER, tokens=1)

    told = r"quota exceeded: 100 tokens per day; this would pass in \d+ minutes"
    assert re.fullmatch(told, caught.value.message)
    assert 0 < int(caught.value.headers["Retry-After"]) <= 86_400
    assert caught.value.headers["x-should-retry"] == "false"


async def test_headers_are_those_of_the_tightest_limit(set_limits: SetLimits) -> None:
    set_limits(tokens=5000, tokens_a_day=300, tokens_a_month=9000, parallel=2)

    charge = await limits.reserve(CALLER, tokens=100)

    assert charge.headers["x-ratelimit-limit-tokens"] == "300"
    assert charge.headers["x-ratelimit-remaining-tokens"] == "200"
    assert "x-ratelimit-limit-requests" not in charge.headers


async def test_headers_in_the_words_of_anthropics_api(set_limits: SetLimits) -> None:
    set_limits(requests=6, tokens_a_day=300)

    charge = await limits.reserve(CALLER, tokens=100, dialect=Dialect.ANTHROPIC)

    told = {name: text for name, text in charge.headers.items() if name.startswith("anthropic")}
    reset = told.pop("anthropic-ratelimit-tokens-reset")
    assert reset.endswith("T00:00:00Z")
    assert told.pop("anthropic-ratelimit-requests-reset") < reset
    assert told == {
        "anthropic-ratelimit-requests-limit": "6",
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-tokens-limit": "300",
        "anthropic-ratelimit-tokens-remaining": "200",
    }


async def test_too_many_at_once_are_told_so(set_limits: SetLimits) -> None:
    set_limits(parallel=2)
    charge = await limits.reserve(CALLER, tokens=1)
    await limits.reserve(CALLER, tokens=1)

    with pytest.raises(TooManyAtOnce) as caught:
        await limits.reserve(CALLER, tokens=1)
    await charge.settle_soon()
    await limits.reserve(CALLER, tokens=1)

    told = "rate limit reached: 2 requests at the same time; please try again in 1s"
    assert caught.value.message == told
    assert caught.value.headers["Retry-After"] == "1"


async def test_month_is_a_quota(set_limits: SetLimits) -> None:
    set_limits(tokens_a_month=100)
    await limits.reserve(CALLER, tokens=100)

    with pytest.raises(QuotaExceeded) as caught:
        await limits.reserve(CALLER, tokens=1)

    assert caught.value.message.startswith("quota exceeded: 100 tokens per month; this would")
    assert 0 < int(caught.value.headers["Retry-After"]) <= 31 * 86_400


@pytest.mark.parametrize(
    ("period", "now", "begins", "ends"),
    [
        (Period.DAY, "2027-02-28T23:59:59", "2027-02-28", "2027-03-01"),
        (Period.MONTH, "2027-02-28T23:59:59", "2027-02-01", "2027-03-01"),
        (Period.MONTH, "2027-12-31T12:00:00", "2027-12-01", "2028-01-01"),
    ],
)
def test_periods_are_those_of_the_calendar(
    period: Period, now: str, begins: str, ends: str
) -> None:
    spec = Limit("site", Unit.TOKENS, period, 5).spec(_ms(now))

    assert (spec.begins, spec.ends) == (_ms(begins), _ms(ends))
    assert spec.name == f"tokens per {period} of the site"


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


async def test_looking_takes_nothing(set_limits: SetLimits) -> None:
    set_limits(requests=6, tokens_a_day=300, parallel=2)
    await limits.reserve(CALLER, tokens=100)
    found = [await limits.look(CALLER) for _ in range(2)]

    assert [[state.remaining for state in states] for states in found] == [[5, 200, 1]] * 2


async def test_every_request_has_an_id_of_its_own(set_limits: SetLimits) -> None:
    unlimited = [await limits.reserve(CALLER, tokens=1) for _ in range(2)]
    set_limits(requests=6)
    limited = [await limits.reserve(CALLER, tokens=1, same_call="x") for _ in range(2)]

    assert len({charge.request_id for charge in (*unlimited, *limited)}) == 4
    assert [charge.record() is None for charge in (*unlimited, *limited)] == [
        True,
        True,
        False,
        False,
    ]


async def test_users_have_limits_of_their_own(set_limits: SetLimits) -> None:
    set_limits(requests=1)
    other = Principal(user_id=8, username="bob", is_admin=False, kind=CredentialKind.KEY)
    await limits.reserve(CALLER, tokens=1)

    charge = await limits.reserve(other, tokens=1)

    assert charge.headers["x-ratelimit-remaining-requests"] == "0"


async def test_lost_redis_lets_a_few_through_and_then_nobody(
    settings: Any, set_limits: SetLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(requests=1000)
    good = settings.REDIS_URL
    monkeypatch.setattr(limits, "_grace", limits._Grace())
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    for _ in range(limits.GRACE_REQUESTS):
        await limits.reserve(CALLER, tokens=1)
    with pytest.raises(LimitsUnavailable) as caught:
        await limits.reserve(CALLER, tokens=1)

    settings.REDIS_URL = good
    await limits.reserve(CALLER, tokens=1)
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    await limits.reserve(CALLER, tokens=1)
    settings.REDIS_URL = good
    await limits.reserve(CALLER, tokens=1)

    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "2")


async def test_refusal_gives_back_what_a_slow_redis_has_reserved_all_the_same(
    set_limits: SetLimits, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(tokens=1000)
    monkeypatch.setattr(limits, "GRACE_REQUESTS", 0)
    reserve = LimitStore.reserve

    async def reserve_too_late(*args: Any, **kwargs: Any) -> Reply:
        await reserve(*args, **kwargs)
        raise StoreLost

    with monkeypatch.context() as slow:
        slow.setattr(LimitStore, "reserve", reserve_too_late)
        with pytest.raises(LimitsUnavailable):
            await limits.reserve(CALLER, tokens=900)
    await limits.close()
    charge = await limits.reserve(CALLER, tokens=1)

    assert charge.headers["x-ratelimit-remaining-tokens"] == "999"


async def test_everything_in_redis_goes_away_by_itself(
    set_limits: SetLimits, redis_url: str
) -> None:
    set_limits(requests=10, tokens=100, tokens_a_day=100)
    charge = await limits.reserve(CALLER, tokens=50, same_call="x")
    charge.used_tokens = 20
    await charge.settle_soon()
    async with Redis.from_url(redis_url) as client:
        lifetimes = [await client.pttl(key) for key in await client.keys("*")]

    # A bucket for each limit, the call and its number, since when there is a Redis, the holder.
    assert len(lifetimes) == 3 + 2 + 2
    assert min(lifetimes) > 0
