"""Ten thousand orders of events at the real script in a real Redis, beside a model of one page.

Every world has limits, holders and a clock of its own, and decides by chance what happens next: a
try, one more of the same call, the same command twice, an end, a late end, a crash and what is left
of it, a try that nobody remembers, a Redis that is away for seconds or minutes and comes back with
its data or empty. Worlds are generators that yield a command and are sent what Redis answers, so
that thousands of them go on at once, by one pipeline.
"""

import random
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from models_app.limit_script import SCRIPT
from models_app.limit_store import (
    LEASE_MS,
    MAX_TRIES,
    OPEN_MS,
    RENEWED_MS,
    WRITTEN_LATE_MS,
    Past,
    Reply,
    Spec,
    State,
    pack,
    unpack,
)
from tests.limited import redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

WORLDS = 10_000
AT_ONCE = 2_500
EVENTS = 5
NOON_MS = 20_000 * 86_400_000 + 43_200_000
MINUTE_MS = 60_000

Command = Generator[dict[str, Any], Reply, Reply]
Run = Generator[dict[str, Any], Reply, None]


@dataclass
class Holder:
    """A process."""

    name: str
    lease_ends: int = 0
    is_dead: bool = False


@dataclass(eq=False)
class Try:
    """What was let in, until it is settled. `row`: it has ended, and the ledger knows.

    `ended_ms`: when, as whoever settles it says; None: its row says that it is lost.
    """

    name: str
    holder: Holder
    reserved: int
    at_ms: int
    is_open: bool = True
    used: int = 0
    row: bool = False
    ended_ms: int | None = None
    is_forgotten: bool = False  # Redis was lost and not told of it, or it was given back
    is_left: bool = False  # by its process, which lives


@dataclass(eq=False)
class Call:
    """What counts once: the dearest of its tries."""

    name: str
    repeats: bool
    tries: list[Try] = field(default_factory=list)

    def held(self) -> int:
        known = [attempt for attempt in self.tries if not attempt.is_forgotten]
        return max([a.reserved if a.is_open else a.used for a in known], default=0)


class World:
    """One interleaving."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)  # noqa: S311 - the same order each time
        self.number = number
        self.now_ms = NOON_MS + self.chance.randrange(10_000)
        # What is lost is read from the ledger: each try for itself, and by the time of its end.
        self.may_lose = number % 2 == 0
        self.is_about_minutes = number % 4 == 1
        self.lives = 0
        self.names = 0
        self.calls: list[Call] = []
        # Redis was lost and so was a process: what that one held was known again at its recovery.
        self.was_unknown = False
        self.late: list[Try] = []  # whose row Redis was told of before it was told of their end
        self.holders = [self.new_holder(), self.new_holder()]
        self.specs = self.chance.sample(self.kinds(), self.chance.randint(1, len(self.kinds())))

    def kinds(self) -> list[Spec]:
        pick = self.chance.choice
        ends: dict[str, Any] = {"begins": NOON_MS - 43_200_000, "ends": NOON_MS + 43_200_000}
        kinds = [
            Spec(key="day", name="", unit="tokens", amount=pick([60, 300]), **ends),
            Spec(key="month", name="", unit="requests", amount=pick([3, 6]), **ends),
            Spec(key="now", name="", unit="parallel", amount=pick([1, 2, 3])),
        ]
        if self.may_lose:
            return kinds
        minute = Spec(key="m", name="", unit="tokens", amount=100, period=MINUTE_MS)
        return [minute] if self.is_about_minutes else [*kinds, minute]

    def new_holder(self) -> Holder:
        return Holder(self.new_name("h"))

    def new_name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    # -------------------------------------------------------------- what happens

    def run(self) -> Run:
        events = [self.reserve, self.reserve, self.end, self.crash]
        if self.may_lose:
            events += [self.lose, self.end_late, self.recover, self.leave, self.be_away]
        else:
            events += [self.try_again]
        for _ in range(EVENTS + 3 if self.is_about_minutes else EVENTS):
            yield from self.pass_time()
            yield from self.chance.choice(events)()
        yield from self.finish()

    def pass_time(self) -> Run:
        short = [0, 0, 0, 1, 1, 40, 1_000, 1_000, 3_000, 20_000]
        long = [0, 1, 3_000, 9_000, 20_000, 40_000]
        passed_ms = self.chance.choice(long if self.is_about_minutes else short)
        while passed_ms > 0:
            step_ms = min(passed_ms, 10_000)
            self.now_ms += step_ms
            passed_ms -= step_ms
            for holder in self.living():
                if step_ms > 3_000:
                    yield from self.ask("renew", holder)

    def reserve(self) -> Run:
        may_repeat = not (self.may_lose or self.is_about_minutes)
        call = Call(self.new_name("c"), repeats=may_repeat and self.chance.random() < 0.3)
        yield from self.attempt(call)

    def try_again(self) -> Run:
        known = [call for call in self.calls if call.repeats]
        if known:
            yield from self.attempt(self.chance.choice(known))

    def attempt(self, call: Call) -> Run:
        attempt = self.new_try()
        holder = attempt.holder
        if len(call.tries) >= MAX_TRIES:
            call = Call(attempt.name, repeats=True)
        words = self.words(call, attempt, attempt.reserved)
        reply = yield from self.ask("reserve", holder, words)
        is_refused = self.check(reply.states, call, attempt)
        if is_refused:
            return
        assert reply.call == call.name
        if not call.tries:
            self.calls.append(call)
        call.tries.append(attempt)
        if self.chance.random() < 0.2:  # the answer was lost, and the command is sent again
            again = yield from self.ask("reserve", holder, words)
            assert all(state.wait == 0 for state in again.states)
            assert [state.remaining for state in again.states] == [
                state.remaining for state in reply.states
            ]

    def new_try(self) -> Try:
        holder = self.chance.choice(self.living())
        return Try(self.new_name("t"), holder, self.chance.randint(1, 60), self.now_ms)

    def call_of(self, attempt: Try) -> Call:
        return next(call for call in self.calls if attempt in call.tries)

    def end(self) -> Run:
        """A try ends: the ledger knows, and so does Redis, perhaps twice."""
        found = self.chosen(attempt for _, attempt in self.open() if not attempt.holder.is_dead)
        if found is not None:
            if not found.row:
                self.write_row(found, self.now_ms)
            yield from self.settle(found)
            if self.chance.random() < 0.2:
                yield from self.settle(found)

    def end_late(self) -> Run:
        """A try ends, and its row is written; Redis is told another time."""
        found = self.chosen(self.running())
        if found is not None:
            self.write_row(found, self.now_ms)
        yield from ()

    def write_row(self, attempt: Try, ended_ms: int | None) -> None:
        attempt.used, attempt.row, attempt.ended_ms = self.used_of(attempt), True, ended_ms

    def recover(self) -> Run:
        """What a dead process has left is made good: what has no row is lost."""
        dead = (attempt for _, attempt in self.open() if attempt.holder.is_dead)
        found = self.chosen(dead)
        if found is None:
            return
        if not found.row:
            self.write_row(found, None)
        if self.chance.random() < 0.7:  # else whoever did it has died as well
            yield from self.settle(found)

    def leave(self) -> Run:
        """A try is given up, or nobody remembers it: there were too many."""
        found = self.chosen(self.running())
        if found is None:
            return
        if self.chance.random() < 0.5:
            found.is_left = True
            return
        found.is_open, found.is_forgotten = False, True
        words = {**self.words(self.call_of(found), found, 0), "amounts": {}, "ended": self.now_ms}
        yield from self.ask("settle", found.holder, words)

    def settle(self, attempt: Try) -> Run:
        call = self.call_of(attempt)
        holder = self.chance.choice(self.living())
        attempt.is_open = attempt.is_forgotten = False
        words = self.words(call, attempt, attempt.used)
        if attempt.ended_ms is not None:
            words["ended"] = attempt.ended_ms
        yield from self.ask("settle", holder, words)

    def used_of(self, attempt: Try) -> int:
        """Return what a try has used in the end: often all, as then the most is at stake."""
        return self.chance.choice([attempt.reserved, self.chance.randint(0, attempt.reserved)])

    def crash(self) -> Run:
        """A process dies, and another takes its place."""
        if self.chance.random() < 0.5:
            dead = self.chance.choice(self.living())
            dead.is_dead = True
            self.holders.append(self.new_holder())
        yield from ()

    def be_away(self) -> Run:
        """Redis does not answer for a time, in which some are let in uncounted and some end."""
        if self.chance.random() < 0.4:
            self.let_in()
        for _ in range(2):
            self.now_ms += self.chance.choice([300, 5_000, 40_000, 150_000])
            if self.chance.random() < 0.7:
                yield from self.end_late()
        if self.chance.random() < 0.6:
            yield from self.come_back_empty()
        for holder in self.living():
            yield from self.ask("renew", holder)
        for attempt in [attempt for attempt in self.running() if attempt.is_forgotten]:
            yield from self.resume(attempt)

    def let_in(self) -> None:
        """Let a try in that may be too much; those of the dead may be forgotten for good."""
        attempt = self.new_try()
        attempt.is_forgotten = self.was_unknown = True
        self.calls.append(Call(self.new_name("c"), repeats=False, tries=[attempt]))

    def resume(self, attempt: Try) -> Run:
        attempt.is_forgotten = False
        words = self.words(self.call_of(attempt), attempt, attempt.reserved)
        yield from self.ask("resume", attempt.holder, words)

    def lose(self) -> Run:
        if self.chance.random() < 0.5:
            yield from self.come_back_empty()

    def come_back_empty(self) -> Run:
        """Redis has lost all; who lives says what they hold."""
        self.lives += 1
        for holder in self.holders:
            holder.lease_ends = 0
        for _, attempt in self.open():
            if attempt.holder.is_dead or attempt.row or attempt.is_left:
                attempt.is_forgotten = True
                attempt.is_open = not attempt.is_left
                self.was_unknown |= not (attempt.row or attempt.is_left)
                continue
            yield from self.resume(attempt)
        self.tell_rows()

    def tell_rows(self) -> None:
        """The ledger has the rows of those that are not settled yet."""
        for _, attempt in self.open():
            if attempt.row and attempt.is_forgotten:
                attempt.is_open = attempt.is_forgotten = False
                self.late.append(attempt)

    def finish(self) -> Run:
        """All that is open ends, what dead processes have left is made good."""
        for attempt in [attempt for _, attempt in self.open() if not attempt.is_left] + self.late:
            if not attempt.row:
                self.write_row(attempt, None if attempt.holder.is_dead else self.now_ms)
            yield from self.settle(attempt)
        yield from self.end_left()
        reply = yield from self.ask("look", self.living()[0], {"specs": self.specs})
        left = {state.spec.key: state.remaining for state in reply.states}
        for spec in self.specs:
            if spec.ends:  # the sum is the ledger's
                used = self.held(spec.unit)
                assert left[spec.key] == max(0, spec.amount - used), self.number
                assert used <= spec.amount or self.was_unknown, self.number
            elif not spec.period:
                assert left[spec.key] == spec.amount, self.number
            elif self.is_about_minutes:  # each call has one try, and so one time
                uses = [(call.tries[0].at_ms, call.held()) for call in self.calls]
                assert highest_fill(uses, spec.amount) <= spec.amount + 1e-6, self.number

    def end_left(self) -> Run:
        """What nobody remembers ends by itself."""
        left = [attempt for _, attempt in self.open() if attempt.is_left]
        if left:
            self.now_ms += OPEN_MS
            yield from self.ask("renew", self.living()[0])
        for attempt in left:
            attempt.is_open, attempt.is_forgotten = False, True

    # -------------------------------------------------------------- what must be

    def check(self, states: list[State], call: Call, attempt: Try) -> bool:
        """Hold the answer to a try against the model; return whether it was refused."""
        is_refused = any(state.wait for state in states)
        for state in states:
            spec = state.spec
            more = self.more(spec.unit, call, attempt)
            before = self.held(spec.unit)
            if spec.period:
                assert not state.wait or self.is_full(spec, call, attempt), self.number
                continue
            is_over = more > 0 and before + more > spec.amount
            assert (state.wait > 0) == is_over, (self.number, spec)
            held = before if is_refused else before + more
            assert state.remaining == max(0, spec.amount - held), (self.number, spec)
        return is_refused

    def held(self, unit: str) -> int:
        if unit == "tokens":
            return sum(call.held() for call in self.calls)
        if unit == "requests":
            return sum(any(not a.is_forgotten for a in call.tries) for call in self.calls)
        leases = [a.holder.lease_ends for _, a in self.open() if not a.is_forgotten]
        return sum(ends > self.now_ms for ends in leases)

    def more(self, unit: str, call: Call, attempt: Try) -> int:
        if unit == "tokens":
            return max(0, attempt.reserved - call.held())
        if unit == "requests":
            return int(not call.tries)
        return 1

    def is_full(self, spec: Spec, call: Call, attempt: Try) -> bool:
        """Whether even a bucket that gets nothing back before the end of a call were full."""
        held = [
            (a.at_ms, a.reserved if not other.repeats else max(t.reserved for t in other.tries))
            for other in self.calls
            for a in other.tries
        ]
        return highest_fill([*held, (attempt.at_ms, attempt.reserved)], spec.amount) > spec.amount

    # -------------------------------------------------------------- how it is asked

    def ask(self, operation: str, holder: Holder, words: dict[str, Any] | None = None) -> Command:
        reply = yield self.command(operation, holder, words or {})
        if reply.missing:
            pasts = [self.past(spec) for spec in reply.missing]
            self.tell_rows()
            yield self.command("tell", holder, {"pasts": pasts})
            reply = yield self.command(operation, holder, words or {})
        assert not reply.missing
        is_renewing = operation in {"reserve", "resume", "renew"}
        if is_renewing and holder.lease_ends - self.now_ms <= RENEWED_MS:
            holder.lease_ends = self.now_ms + LEASE_MS
        return reply

    def command(self, operation: str, holder: Holder, words: dict[str, Any]) -> dict[str, Any]:
        own = {"op": operation, "now": self.now_ms, "holder": holder.name}
        return {**own, "prefix": f"w{self.number}.{self.lives}:", **words}

    def words(self, call: Call, attempt: Try, tokens: int) -> dict[str, Any]:
        return {
            "call": call.name,
            "try": attempt.name,
            "specs": self.specs,
            "amounts": {"requests": 1, "tokens": tokens, "parallel": 1},
            "repeats": call.repeats,
        }

    def past(self, spec: Spec) -> Past:
        """Return what the ledger says: it names who has ended lately, and who is lost."""
        rows = [attempt for call in self.calls for attempt in call.tries if attempt.row]
        used = len(rows) if spec.unit == "requests" else sum(row.used for row in rows)
        since_ms = self.now_ms - WRITTEN_LATE_MS
        named = [row.name for row in rows if row.ended_ms is None or row.ended_ms >= since_ms]
        return Past(spec=spec, fill=used, tries=named)

    def open(self) -> list[tuple[Call, Try]]:
        return [(call, a) for call in self.calls for a in call.tries if a.is_open]

    def running(self) -> list[Try]:
        """Return what living processes have let in that has not ended."""
        found = (attempt for _, attempt in self.open() if not attempt.holder.is_dead)
        return [attempt for attempt in found if not (attempt.row or attempt.is_left)]

    def living(self) -> list[Holder]:
        return [holder for holder in self.holders if not holder.is_dead]

    def chosen(self, attempts: Iterable[Try]) -> Try | None:
        found = list(attempts)
        return self.chance.choice(found) if found else None


def highest_fill(uses: list[tuple[int, int]], amount: int) -> float:
    """Return the fill of a bucket that drains `amount` a minute, at its highest."""
    fill, highest, last_ms = 0.0, 0.0, 0
    for at_ms, used in sorted(uses):
        fill = max(0.0, fill - (at_ms - last_ms) * amount / MINUTE_MS) + used
        highest, last_ms = max(highest, fill), at_ms
    return highest


def run_all(client: Redis, worlds: list[World]) -> int:
    """Run worlds to their ends, one command of each at a time; return how many there were."""
    sha = client.script_load(SCRIPT)
    running = [(run, next(run)) for run in (world.run() for world in worlds)]
    commands = 0
    while running:
        with client.pipeline(transaction=False) as pipe:
            for _, command in running:
                pipe.evalsha(sha, 0, pack(command))
            answers = pipe.execute()
        commands += len(answers)
        running = list(_go_on(running, answers))
    return commands


def _go_on(
    running: list[tuple[Run, dict[str, Any]]], answers: list[bytes]
) -> Iterator[tuple[Run, dict[str, Any]]]:
    for (run, command), answer in zip(running, answers, strict=True):
        try:
            yield run, run.send(unpack(answer, command.get("specs", ())))
        except StopIteration:
            continue


@pytest.fixture
def client(redis_socket: Path, redis_url: str) -> Iterator[Redis]:
    """A Redis that keeps nothing on the disk: other tests would wait for it."""
    with Redis(unix_socket_path=str(redis_socket)) as made:
        made.config_set("appendonly", "no")
        yield made
        made.flushall()
        made.config_set("appendonly", "yes")


@pytest.mark.parametrize("first", range(0, WORLDS, AT_ONCE))
def test_no_interleaving_breaks_a_limit(client: Redis, first: int) -> None:
    """Never over, never refused for nothing, and in the end the sums are those of the ledger."""
    commands = run_all(client, [World(number) for number in range(first, first + AT_ONCE)])

    assert commands > AT_ONCE * EVENTS
