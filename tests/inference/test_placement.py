"""Where a request goes: rules by example, and what holds for all fleets."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from inference.messages import ModelRef, NodeReport, RunnerReport
from inference.placement import NodeView, choose

MODEL = ModelRef(name="m", digest="d" * 64, weights="w" * 64, size_bytes=1000)
KEY = MODEL.runner_key


def runner(**facts: Any) -> RunnerReport:
    given: dict[str, Any] = {"key": KEY, "slots": 4, "used": 0, "waiting": 0}
    return RunnerReport(**(given | facts))


def node(name: str, *runners: RunnerReport, **facts: Any) -> NodeView:
    given: dict[str, Any] = {"total_bytes": 10_000, "free_bytes": 5_000, "places": 2}
    report = given | facts
    return NodeView(name=name, report=NodeReport(node=name, runners=runners, **report))


def chosen(*nodes: NodeView, **asked: Any) -> str:
    found = choose(nodes, MODEL, **asked)
    assert found is not None
    return found.name


def test_a_free_slot_of_a_loaded_model_comes_first() -> None:
    assert chosen(node("a"), node("b", runner(used=3))) == "b"


def test_the_emptier_of_two_runners_is_asked() -> None:
    assert chosen(node("a", runner(used=3)), node("b", runner(used=1))) == "b"


def test_a_short_line_is_better_than_a_load() -> None:
    assert chosen(node("a"), node("b", runner(used=4))) == "b"


def test_a_long_line_is_worse_than_a_load_elsewhere() -> None:
    assert chosen(node("a"), node("b", runner(used=4, waiting=8))) == "a"


def test_a_long_line_is_better_than_evicting_what_others_use() -> None:
    busy = runner(key="other", used=4)
    full = node("a", busy, places=0, free_bytes=0)
    assert chosen(full, node("b", runner(used=4, waiting=8))) == "b"


def test_it_loads_where_nothing_has_to_leave() -> None:
    idle = runner(key="other", is_idle=True)
    assert chosen(node("a", idle, places=0), node("b")) == "b"


def test_it_loads_where_its_files_are() -> None:
    assert chosen(node("a", blobs=()), node("b", blobs=MODEL.files)) == "b"


def test_where_it_fits_by_no_means_is_asked_last() -> None:
    small = node("a", total_bytes=100, free_bytes=100)
    assert chosen(small, node("b", runner(key="other", used=9), places=0)) == "b"
    assert chosen(small) == "a"  # it says why with numbers


def test_the_callers_last_node_is_the_better_of_equals() -> None:
    nodes = node("a", runner(used=1)), node("b", runner(used=1))
    assert chosen(*nodes) == "a"
    assert chosen(*nodes, known="b") == "b"


def test_own_requests_count_before_the_next_report() -> None:
    views = [node("a", runner()), node("b", runner())]
    seen = []
    for _ in range(8):
        name = chosen(*views)
        seen.append(name)
        place = "ab".index(name)
        counts = dict(views[place].in_flight)
        counts[KEY] = counts.get(KEY, 0) + 1
        views[place] = NodeView(name=name, report=views[place].report, in_flight=counts)
    assert seen.count("a") == seen.count("b") == 4


def test_a_bound_model_stays_on_the_sites_own_node() -> None:
    far = NodeView(name="a", is_local=False, report=node("a", runner()).report)
    assert chosen(far, node("local"), is_bound=True) == "local"
    assert choose([far], MODEL, is_bound=True) is None


def test_nobody_is_asked_where_nobody_takes_requests() -> None:
    cordoned = NodeView(name="a", is_cordoned=True, report=node("a", runner()).report)
    assert choose([cordoned, node("b", runner(), is_draining=True)], MODEL) is None


_counts = st.integers(0, 20)
_runners = st.builds(
    RunnerReport,
    key=st.sampled_from([KEY, "other", "third"]),
    slots=st.integers(1, 8),
    used=_counts,
    waiting=_counts,
    is_ready=st.booleans(),
    is_idle=st.booleans(),
)
_reports = st.builds(
    NodeReport,
    node=st.just(""),
    total_bytes=st.none() | st.integers(0, 10_000),
    free_bytes=st.none() | st.integers(-1000, 10_000),
    idle_bytes=st.integers(0, 10_000),
    places=st.integers(0, 3),
    runners=st.lists(_runners, max_size=3, unique_by=lambda r: r.key).map(tuple),
    waiting=_counts,
    is_draining=st.booleans(),
    blobs=st.sampled_from([None, (), MODEL.files]),
)
_own = st.dictionaries(st.sampled_from([KEY, "other"]), _counts)
_views = st.builds(
    NodeView,
    name=st.sampled_from("abcdef"),
    is_local=st.booleans(),
    is_cordoned=st.booleans(),
    report=st.none() | _reports,
    in_flight=_own,
    in_flight_at_report=_own,
)
_fleets = st.lists(_views, max_size=5, unique_by=lambda view: view.name)


@given(_fleets, st.booleans())
def test_whoever_may_be_asked_is_asked_and_nobody_else(
    nodes: list[NodeView], is_bound: bool
) -> None:
    able = [n.name for n in nodes if n.takes_requests and (n.is_local or not is_bound)]
    found = choose(nodes, MODEL, is_bound=is_bound)
    assert (found is None) == (not able)
    assert found is None or found.name in able


@given(_fleets, st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_does_not_matter(nodes: list[NodeView], random: Any) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)
    assert choose(nodes, MODEL) == choose(shuffled, MODEL)


@given(_fleets)
def test_a_free_slot_anywhere_means_that_nothing_is_loaded(nodes: list[NodeView]) -> None:
    free = runner(used=1, waiting=0)
    ready = NodeView(name="z", report=NodeReport(node="z", runners=(free,)))
    found = choose([*nodes, ready], MODEL)
    assert found is not None
    assert found.report is not None
    assert any(one.key == KEY for one in found.report.runners)


@given(_reports, st.integers(1, 20))
def test_more_who_wait_never_make_a_node_more_attractive(report: NodeReport, more: int) -> None:
    longer = tuple(structs.replace(one, waiting=one.waiting + more) for one in report.runners)
    worse = NodeView(name="a", report=structs.replace(report, runners=longer, is_draining=False))
    better = NodeView(name="b", report=structs.replace(report, is_draining=False))
    assert choose([worse, better], MODEL) == better or not any(
        one.key == KEY for one in report.runners
    )
