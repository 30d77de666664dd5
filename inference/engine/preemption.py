"""Which running requests give up their slots to one that waits. Pure.

A swap must make the shares of slots more even, or put a better class before a worse one, or end
the turn of a user who is ahead by a quantum; so two requests never swap back and forth. Knows no
runner: what was computed for a paused request is the runner's business.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from inference.engine.fair_queue import Entry, FairQueue
from inference.messages import Generate, Priority

# Weighted tokens that a user may be ahead before somebody behind them takes the slot. Simulated
# with five polite users beside one with 32 requests on 4 slots: with 512 the polite ones' time to
# first token is up to 2.3 times what it is without the other, with 96 it is 1.8 times; with less,
# more requests are paused and little is won.
QUANTUM: Final = 96.0
# Completion tokens that a request may compute in any case before its turn is ended for a lead or
# a class. A batch request has no such right.
LEAST_TURN_TOKENS: Final = 32


def choose_victims(
    candidate: Entry,
    running: Iterable[Entry],
    queue: FairQueue,
    missing_slots: int,
    *,
    ends_turns: bool = True,
) -> list[Entry]:
    """Return the running entries to pause so that the candidate has room; none: it waits.

    `ends_turns`: also who is only ahead by a quantum may be paused.
    """
    pausable = [entry for entry in running if isinstance(entry.request, Generate)]
    taken: Counter[str] = Counter()  # slots of each user that are given up already
    victims: list[Entry] = []
    while missing_slots > 0:
        willing = [v for v in pausable if _gives_way(v, candidate, queue, taken, ends_turns)]
        if not willing:
            return []
        victim = max(willing, key=lambda entry: _order(entry, queue, taken))
        pausable.remove(victim)
        victims.append(victim)
        taken[victim.user] += victim.slots
        missing_slots -= victim.slots
    return victims


def _order(entry: Entry, queue: FairQueue, taken: Counter[str]) -> tuple[int, float, float, int]:
    """Rank victims: the worst class, the largest share, the most served; of these the newest."""
    share = (queue.slots_of(entry.user) - taken[entry.user]) / entry.weight
    return entry.level, share, queue.counter(entry.user), entry.number


def _gives_way(
    victim: Entry,
    candidate: Entry,
    queue: FairQueue,
    taken: Counter[str],
    ends_turns: bool,  # noqa: FBT001 - one caller
) -> bool:
    if victim.level == Priority.BATCH and candidate.level < Priority.BATCH:
        return True
    if victim.user == candidate.user or candidate.level > victim.level:
        return False
    share_after = (queue.slots_of(candidate.user) + candidate.slots) / candidate.weight
    left = queue.slots_of(victim.user) - taken[victim.user] - victim.slots
    if share_after <= left / victim.weight:
        return True
    if victim.tokens_in_turn < LEAST_TURN_TOKENS:
        return False
    lead = queue.counter(victim.user) - queue.counter(candidate.user)
    return candidate.level < victim.level or (ends_turns and lead > QUANTUM)
