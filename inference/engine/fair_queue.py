"""Who of those that wait for one model goes next: a Virtual Token Counter for each user.

After Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): every user has a
counter of the tokens that were computed for them, a prompt token counting 1 and a completion
token 2 (the paper's weights), divided by the user's weight. The waiting user with the smallest
counter goes first, their own requests in order of arrival. Who comes back is lifted to the
smallest counter of those who are active, so nobody saves up service while away; when nobody is
active all is forgotten. Classes go before counters. Whoever has had no service in a class for a
while rises by one (their first request there does, not all that they have piled up), and is lifted
to the counters of the better class then: nothing starves, and nobody catches up at a stroke.

Pure: no I/O, no clock. Operations are linear in users, not in requests; only `order` sorts all.
Knows no runner.
"""

import itertools
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from inference.messages import Embed, Generate, Priority

PROMPT_COST: Final = 1.0
COMPLETION_COST: Final = 2.0
AGEING_S: Final = 60.0
# What an absent user keeps of the service that they did not take, in weighted tokens: enough for
# a short request to go first.
CREDIT: Final = 512.0
_LEAST_WEIGHT: Final = 0.01


@dataclass(slots=True, eq=False)
class Entry:
    """A request from its arrival to its end. Times are monotonic seconds."""

    request: Generate | Embed
    number: int  # in order of arrival
    arrived_at: float
    slots: int = 1
    position: int = 0  # in its line when it came; 0: it did not wait
    waiting_since: float = 0.0
    level: int = 0  # the class it has risen to; fixed while it runs
    is_paused: bool = False
    tokens_in_turn: int = 0  # completion tokens since it was dispatched or resumed
    cost: float = 0.0  # weighted tokens so far
    request_id: str = field(init=False)
    user: str = field(init=False)  # who is charged
    weight: float = field(init=False)  # their share
    lane: tuple[str, Priority] = field(init=False)  # of who is served in order of arrival

    def __post_init__(self) -> None:
        request = self.request
        self.request_id = request.request_id
        self.user = request.user
        self.weight = max(request.weight, _LEAST_WEIGHT)
        self.lane = request.user, request.priority
        self.waiting_since = self.arrived_at
        self.level = int(request.priority)


class FairQueue:
    """The waiting and the running requests of one model. Every entry is in one of the two."""

    def __init__(self, *, ageing_s: float = AGEING_S) -> None:
        self._ageing_s = ageing_s
        self._lanes: dict[tuple[str, Priority], list[Entry]] = {}
        self._waiting: dict[str, Entry] = {}
        self._running: dict[str, Entry] = {}
        self._served_at: dict[tuple[str, Priority], float] = {}  # by lane
        self._counters: dict[str, float] = {}
        self._active: Counter[str] = Counter()  # requests of each user, waiting or running
        self._slots: Counter[str] = Counter()  # of each user's running requests
        self._paused = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry]:
        """Whoever waits, in no particular order."""
        return iter(self._waiting.values())

    @property
    def fresh(self) -> int:
        """How many wait for their first turn."""
        return len(self._waiting) - self._paused

    @property
    def is_unused(self) -> bool:
        """Whether nobody waits or runs."""
        return not self._active

    @property
    def running(self) -> list[Entry]:
        """Whoever has slots."""
        return list(self._running.values())

    @property
    def slots_taken(self) -> int:
        """How many slots the running requests take."""
        return self._slots.total()

    def counter(self, user: str) -> float:
        """Return a user's weighted tokens."""
        return self._counters.get(user, 0.0)

    def slots_of(self, user: str) -> int:
        """Return how many slots a user's running requests take."""
        return self._slots[user]

    def waiting_of(self, request_id: str) -> Entry | None:
        """Return a waiting entry."""
        return self._waiting.get(request_id)

    def add(self, entry: Entry) -> None:
        """Put a newcomer in."""
        if not self._is_active_at(entry.user, entry.level):
            self._lift(entry.user, entry.level)
        self._counters.setdefault(entry.user, 0.0)
        self._active[entry.user] += 1
        self._insert(entry)

    def best(self, now: float) -> Entry | None:
        """Return who goes next, and let it stay."""
        heads = [lane[0] for lane in self._lanes.values()]
        for head in heads:
            self._age(head, now)
        return min(heads, key=lambda head: self._turn(head, 0, now, 0.0), default=None)

    def take(self, entry: Entry, now: float) -> None:
        """A waiting entry gets its slots."""
        self._remove(entry)
        self._served_at[entry.lane] = now
        entry.is_paused = False
        entry.tokens_in_turn = 0
        self._running[entry.request_id] = entry
        self._slots[entry.user] += entry.slots

    def put_back(self, entry: Entry, now: float) -> None:
        """A running entry loses its slots and waits again, at its old place among its user's."""
        del self._running[entry.request_id]
        self._free_slots(entry)
        entry.is_paused = True
        entry.waiting_since = now
        entry.level = int(entry.request.priority)
        self._insert(entry)

    def leave(self, entry: Entry) -> None:
        """An entry has ended or was given up, waiting or running."""
        if entry.request_id in self._waiting:
            self._remove(entry)
        elif self._running.pop(entry.request_id, None):
            self._free_slots(entry)
        else:
            return
        self._active[entry.user] -= 1
        if not self._active[entry.user]:
            del self._active[entry.user]
            self._forget(entry.user)

    def charge(
        self, entry: Entry, now: float, *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Count tokens that were just computed for an entry of this queue."""
        cost = PROMPT_COST * prompt_tokens + COMPLETION_COST * completion_tokens
        entry.cost += cost
        entry.tokens_in_turn += completion_tokens
        if entry.user in self._active:
            self._counters[entry.user] += cost / entry.weight
            self._served_at[entry.lane] = now

    def order(self, now: float, mean_cost: float) -> list[Entry]:
        """Return who waits in the order of their turns, if every request costs `mean_cost`."""
        ranked = [
            (self._turn(entry, index, now, mean_cost), entry)
            for lane in self._lanes.values()
            for index, entry in enumerate(lane)
        ]
        return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]

    def position(self, entry: Entry, now: float, mean_cost: float) -> int:
        """Return the place of a waiting entry in that order, from 1."""
        index = self._lanes[entry.lane].index(entry)
        turn = self._turn(entry, index, now, mean_cost)
        before = 0
        for lane in self._lanes.values():
            turns = (self._turn(other, at, now, mean_cost) for at, other in enumerate(lane))
            # A lane is in order: the first that comes later ends it.
            before += sum(1 for _ in itertools.takewhile(lambda other: other < turn, turns))
        return 1 + before

    def _turn(
        self, entry: Entry, index: int, now: float, mean_cost: float
    ) -> tuple[int, float, float, int]:
        """Rank an entry that has `index` others of its lane before it."""
        # Only who is first in a lane rises; when their turn comes, the lane has had service.
        level = self._level_at(entry, now) if index == 0 else int(entry.request.priority)
        counter = self.counter(entry.user) + index * mean_cost / entry.weight
        return level, counter, self._slots[entry.user] / entry.weight, entry.number

    def _level_at(self, entry: Entry, now: float) -> int:
        since = max(entry.waiting_since, self._served_at.get(entry.lane, 0.0))
        risen = int((now - since) / self._ageing_s)
        return max(int(Priority.INTERACTIVE), int(entry.request.priority) - risen)

    def _age(self, entry: Entry, now: float) -> None:
        level = self._level_at(entry, now)
        if level < entry.level and not self._is_active_at(entry.user, level):
            self._lift(entry.user, level)
        entry.level = level

    def _lift(self, user: str, level: int) -> None:
        """Raise a user's counter to the smallest of those active in a class, else of all."""
        active = [entry for entry in self._heads_and_running() if entry.user != user]
        peers = [entry for entry in active if entry.level == level] or active
        floor = min((self.counter(entry.user) for entry in peers), default=0.0)
        self._counters[user] = max(self.counter(user), floor - CREDIT)

    def _is_active_at(self, user: str, level: int) -> bool:
        if user not in self._active:
            return False
        own = (entry for entry in self._heads_and_running() if entry.user == user)
        return any(entry.level == level for entry in own)

    def _heads_and_running(self) -> Iterator[Entry]:
        for lane in self._lanes.values():
            yield lane[0]
        yield from self._running.values()

    def _insert(self, entry: Entry) -> None:
        lane = self._lanes.setdefault(entry.lane, [])
        insort(lane, entry, key=lambda other: other.number)
        self._paused += entry.is_paused
        self._waiting[entry.request_id] = entry

    def _remove(self, entry: Entry) -> None:
        del self._waiting[entry.request_id]
        self._paused -= entry.is_paused
        self._lanes[entry.lane].remove(entry)
        if not self._lanes[entry.lane]:
            del self._lanes[entry.lane]

    def _free_slots(self, entry: Entry) -> None:
        self._slots[entry.user] -= entry.slots
        if not self._slots[entry.user]:
            del self._slots[entry.user]

    def _forget(self, user: str) -> None:
        """Drop a counter that says nothing: its user would be lifted above it."""
        for priority in Priority:
            self._served_at.pop((user, priority), None)
        if not self._active:
            self._counters.clear()
        elif self._counters[user] <= min(self._counters[u] for u in self._active) - CREDIT:
            del self._counters[user]
