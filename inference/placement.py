"""Which node a request goes to. Pure: no clock, no sockets, the same answer for the same facts.

Every node that takes requests has a price, in rounds of waiting: a free slot of a loaded model
costs nothing, a place in a line as many rounds as there are turns before it, a load one, a load
for which others must leave many. The cheapest node is asked. A node on which the model fits by no
means is still asked where there is no other, as it says with numbers why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.messages import ModelRef, NodeReport, RunnerReport

_LOADING: Final = 0.5  # it is on its way in
_LOAD: Final = 1.0
_FETCH: Final = 1.0  # the files have to come over the network first
_EVICT_IDLE: Final = 4.0
_EVICT_BUSY: Final = 16.0
_TOO_LARGE: Final = 1000.0
# Of equals the one that the caller's last request went to: it may have the prompt in its cache.
_KNOWN: Final = 0.25
# What a model takes beyond its files, KV cache and buffers, is known when a node has measured it.
_BEYOND_FILES: Final = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What is known of a node. `report` None: it has not told anything yet.

    `in_flight` are this process's own requests on it by runner key, `in_flight_at_report` how many
    of them there were when it reported: the difference is what the report cannot know of.
    """

    name: str
    is_local: bool = True
    is_cordoned: bool = False
    report: NodeReport | None = None
    in_flight: Mapping[str, int] = field(default_factory=dict)
    in_flight_at_report: Mapping[str, int] = field(default_factory=dict)

    @property
    def takes_requests(self) -> bool:
        """Whether new requests may go to it."""
        return not self.is_cordoned and not (self.report and self.report.is_draining)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """A node as it stands now. `report` None: it does not answer, `lost_s` seconds since."""

    name: str
    is_local: bool
    is_cordoned: bool = False
    report: NodeReport | None = None
    lost_s: float | None = None


def choose(
    nodes: Sequence[NodeView], model: ModelRef, *, is_bound: bool = False, known: str = ""
) -> NodeView | None:
    """Return the node that a request for a model goes to; None: no node takes requests.

    `is_bound`: only the site's own node will do. `known` is the node that has served the same
    caller last.
    """
    able = [n for n in nodes if n.takes_requests and (n.is_local or not is_bound)]
    return min(able, key=lambda node: _rank(node, model, known), default=None)


def _rank(node: NodeView, model: ModelRef, known: str) -> tuple[float, int, int, str]:
    favour = _KNOWN if node.name == known else 0.0
    total = sum(node.in_flight.values())
    if node.report is None:
        return _LOAD + _FETCH - favour, total, 0, node.name
    total = max(total, sum(runner.used + runner.waiting for runner in node.report.runners))
    free = node.report.free_bytes or 0
    return price(node, model) - favour, total, -free, node.name


def price(node: NodeView, model: ModelRef) -> float:
    """Return what a request for a model costs on a node that has reported."""
    report = node.report
    if report is None:
        return _LOAD + _FETCH
    for runner in report.runners:
        if runner.key == model.runner_key:
            return _line_price(node, runner)
    own = node.in_flight.get(model.runner_key, 0)
    return _load_price(report, model) + own / 4


def can_hold(report: NodeReport | None, model: ModelRef) -> bool:
    """Whether a model fits on a node that nothing else is on; True where nobody can tell."""
    if report is None or report.total_bytes is None or report.devices:
        return True
    is_there = any(runner.key == model.runner_key for runner in report.runners)
    return is_there or _needed_bytes(model) <= report.total_bytes


def _line_price(node: NodeView, runner: RunnerReport) -> float:
    own = node.in_flight.get(runner.key, 0)
    since = own - node.in_flight_at_report.get(runner.key, 0)
    load = max(own, runner.used + runner.waiting + since)
    slots = max(1, runner.slots)
    # Free slots cost nearly nothing; the emptier of two runners is still the better one.
    turn = load / slots / 10 if load < slots else (load + 1 - slots) / slots
    return turn + (0.0 if runner.is_ready else _LOADING)


def _load_price(report: NodeReport, model: ModelRef) -> float:
    missing = report.blobs is not None and not set(model.files) <= set(report.blobs)
    cost = _LOAD + (_FETCH if missing else 0.0) + report.waiting / 4
    if not can_hold(report, model):
        return cost + _TOO_LARGE
    needed = _needed_bytes(model)
    free = report.free_bytes
    if report.places and (free is None or needed <= free or report.devices):
        return cost
    idle = [runner for runner in report.runners if runner.is_idle]
    is_room = free is None or needed <= free + report.idle_bytes or bool(report.devices)
    if idle and is_room:
        return cost + _EVICT_IDLE
    return cost + _EVICT_BUSY


def _needed_bytes(model: ModelRef) -> int:
    return int(model.size_bytes * _BEYOND_FILES)
