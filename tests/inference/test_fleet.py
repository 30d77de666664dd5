"""Several nodes behind one fleet: who is asked, what becomes of requests whose node is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec import structs

from inference import fleet as fleet_module
from inference import no_room
from inference.client import new_request_id
from inference.engine_stream import EngineStream
from inference.errors import EngineUnavailable, LoadFailed, NodeAway
from inference.fleet import Fleet, Listed
from inference.messages import (
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    ModelRef,
    NodeReport,
    QueueState,
    RawPrompt,
    RunnerOptions,
    RunnerReport,
    Sampling,
    Started,
    Token,
    Unload,
    UpstreamRef,
)
from tests.fakes.engine import FakeNode, Script, running_node

MODEL = ModelRef(name="m:latest", digest="d" * 64, weights="w" * 64)
HELD = Script(pieces=(), is_held=True)


def request(**changes: Any) -> Generate:
    fields: dict[str, Any] = {
        "request_id": new_request_id(),
        "model": MODEL,
        "runner": RunnerOptions(num_ctx=512),
        "prompt": RawPrompt(text="hi"),
        "sampling": Sampling(),
        "user": "alice",
    }
    return Generate(**(fields | changes))


def loaded(node: FakeNode, *, used: int = 0) -> NodeReport:
    runner = RunnerReport(key=MODEL.runner_key, slots=4, used=used, waiting=0)
    return NodeReport(node=node.name, runners=(runner,))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


class Two:
    """A fleet of two fake nodes."""

    def __init__(self, first: FakeNode, second: FakeNode) -> None:
        self.first = first
        self.second = second
        self.fleet = Fleet(first.socket_path)
        self.enlist()
        self.heard: list[Event] = []
        self.placed: list[str] = []

    def enlist(self, *, is_cordoned: bool = False) -> None:
        where = self.second.socket_path
        self.fleet.enlist([Listed(name="second", where=where, is_cordoned=is_cordoned)])

    async def submit(self, **changes: Any) -> EngineStream:
        return await self.fleet.submit(request(**changes), self.heard.append, self.placed.append)

    async def text(self, stream: EngineStream) -> str:
        return "".join([event.text async for event in stream if isinstance(event, Token)])

    @property
    def ends(self) -> list[Event]:
        return [event for event in self.heard if isinstance(event, Finished | Failed)]


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_node(name="first"))
        second = await stack.enter_async_context(running_node(name="second"))
        pair = Two(first, second)
        yield pair
        pair.fleet.close()
        await asyncio.sleep(0)


async def test_a_request_goes_where_the_model_is_loaded(two: Two) -> None:
    two.first.report = NodeReport(node="first", places=3)
    two.second.report = loaded(two.second)
    assert await two.text(await two.submit()) == "Hello."
    assert two.placed == ["second"]
    assert not two.first.got(Generate)


async def test_a_cordoned_node_gets_nothing_new(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.enlist(is_cordoned=True)
    assert await two.text(await two.submit()) == "Hello."
    assert two.placed == ["first"]


async def test_what_had_not_begun_goes_on_elsewhere(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.default = HELD
    load = await two.submit(renders_only=True)  # nothing is told of it before its end
    await until(lambda: two.second.got(Generate))
    await two.second.stop()
    async with asyncio.timeout(10):
        ends = [event async for event in load if isinstance(event, Finished)]
    assert len(ends) == 1
    assert two.placed == ["second", "first"]
    assert two.ends == ends
    assert load.node == "first"


async def test_what_had_begun_fails_once(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.default = Script(pieces=("a",), is_held=True)
    stream = await two.submit()
    await until(lambda: any(isinstance(event, Token) for event in two.heard))
    await two.second.stop()
    with pytest.raises(EngineUnavailable):
        await two.text(stream)
    assert [end.code for end in two.ends if isinstance(end, Failed)] == [
        FailureCode.CONNECTION_LOST
    ]
    assert two.placed == ["second"]
    assert not two.first.got(Generate)


async def test_it_is_sent_again_once_only(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.first.default = two.second.default = HELD
    stream = await two.submit(renders_only=True)
    await until(lambda: two.second.got(Generate))
    await two.second.stop()
    await until(lambda: two.first.got(Generate))
    await two.first.stop()
    with pytest.raises(EngineUnavailable):
        await two.text(stream)
    assert two.placed == ["second", "first"]
    assert len(two.ends) == 1


async def test_a_draining_nodes_refusal_is_not_the_clients(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.scripts.append(Script(pieces=(), failure=FailureCode.SHUTTING_DOWN))
    stream = await two.submit(renders_only=True)
    async with asyncio.timeout(10):
        assert [event async for event in stream]
    assert two.placed == ["second", "first"]
    assert len(two.ends) == 1


async def test_who_leaves_while_it_is_sent_again_ends_it_once(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.default = HELD
    await two.first.stop()
    stream = await two.submit(renders_only=True)
    await until(lambda: two.second.got(Generate))
    await two.second.stop()
    await asyncio.sleep(0.05)
    stream.close()
    await until(lambda: two.ends)
    assert [type(end) for end in two.ends] == [Failed]


async def test_a_request_waits_for_a_node_that_was_there_just_now(two: Two) -> None:
    await two.text(await two.submit())
    await two.second.stop()
    await two.first.stop()
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(two.submit())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await two.first.start()
    async with asyncio.timeout(15):
        assert await two.text(await waiting) == "Hello."


async def test_a_request_fails_at_once_where_no_node_ever_was(tmp_path: Any) -> None:
    fleet = Fleet(tmp_path / "nobody.sock")
    async with asyncio.timeout(fleet_module.BACK_WITHIN_S / 2):
        with pytest.raises(EngineUnavailable):
            await fleet.submit(request())
    fleet.close()


async def test_a_lost_node_is_left_out_of_the_answers_and_told_of(two: Two) -> None:
    two.first.queue = QueueState(request_id="", entries=(), running=1, slots=4)
    two.second.queue = QueueState(request_id="", entries=(), running=2, slots=4)
    both = await two.fleet.get_queue()
    assert (both.running, both.slots) == (3, 8)
    assert [memory.node for memory in await two.fleet.get_memories()] == ["first", "second"]
    await two.second.stop()
    await until(lambda: two.fleet.seen()[1].lost_s is not None)
    assert (await two.fleet.get_queue()).running == 1
    assert [seen.name for seen in two.fleet.seen() if seen.lost_s is not None] == ["second"]


async def test_unloading_reaches_every_node_that_has_it(two: Two) -> None:
    two.first.report, two.second.report = loaded(two.first), loaded(two.second)
    stream = await two.fleet.submit(Unload(request_id=new_request_id(), model=MODEL))
    assert [type(event) async for event in stream] == [Finished]
    await two.first.wait_for(Unload)
    await two.second.wait_for(Unload)


async def test_the_key_of_an_engine_elsewhere_goes_to_no_other_machine(two: Two) -> None:
    """Not even to one that says it has the engine's models in memory."""
    engine = UpstreamRef(name="gpu", url="http://gpu/v1", kind="vllm", model="m", key="secret")
    model = ModelRef(name="m:latest", digest="d" * 64, weights="", upstream=engine)
    liar = RunnerReport(key=model.runner_key, slots=64, used=0, waiting=0)
    two.second.report = NodeReport(node="second", places=3, runners=(liar,))
    assert await two.text(await two.submit(model=model)) == "Hello."
    ended = await two.fleet.submit(Unload(request_id=new_request_id(), model=model))
    assert [type(event) async for event in ended] == [Finished]
    assert two.first.got(Generate)
    assert two.first.got(Unload)
    assert not [one for one in two.second.received if isinstance(one, Generate | Unload)]


async def test_withdrawing_asks_every_node(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.default = Script(pieces=("a",), is_held=True)
    stream = await two.submit()
    await until(lambda: any(isinstance(event, Started) for event in two.heard))
    assert await two.fleet.withdraw(stream.request_id)
    assert not await two.fleet.withdraw("nobody's")
    await until(lambda: two.ends)


async def test_the_next_request_of_a_caller_goes_to_the_same_node(two: Two) -> None:
    two.first.report, two.second.report = loaded(two.first), loaded(two.second, used=1)
    await two.text(await two.submit())
    two.first.tell_report(loaded(two.first, used=1))
    two.second.tell_report(loaded(two.second))
    await asyncio.sleep(0.1)
    await two.text(await two.submit())
    await two.text(await two.submit(user="bob"))
    assert two.placed == ["first", "first", "second"]


async def test_a_node_that_is_removed_gives_its_requests_back(two: Two) -> None:
    two.second.report = loaded(two.second)
    two.second.default = HELD
    stream = await two.submit(renders_only=True)
    await until(lambda: two.second.got(Generate))
    two.fleet.enlist([])
    async with asyncio.timeout(10):
        assert [event async for event in stream]
    assert two.placed == ["second", "first"]
    assert len(two.ends) == 1


LARGE = structs.replace(MODEL, size_bytes=1000)


def sized(node: FakeNode, total_bytes: int) -> NodeReport:
    return NodeReport(node=node.name, total_bytes=total_bytes, free_bytes=total_bytes, places=3)


async def only_the_second_can_hold_it(two: Two) -> None:
    two.first.report, two.second.report = sized(two.first, 100), sized(two.second, 10_000)
    assert await two.text(await two.submit(model=LARGE)) == "Hello."
    assert two.placed == ["second"]


@pytest.mark.parametrize("large", ["first", "second"])
async def test_what_fits_on_no_other_node_waits_for_the_one_that_comes_back(
    two: Two, large: str
) -> None:
    nodes = {"first": two.first, "second": two.second}
    small = next(name for name in nodes if name != large)
    nodes[large].report = sized(nodes[large], 10_000)
    nodes[small].report = sized(nodes[small], 100)
    assert await two.text(await two.submit(model=LARGE)) == "Hello."
    await nodes[large].stop()
    await until(lambda: any(seen.lost_s is not None for seen in two.fleet.seen()))
    waiting = asyncio.create_task(two.submit(model=LARGE))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert await two.text(await two.submit()) == "Hello."  # what fits does not wait
    await nodes[large].start()
    async with asyncio.timeout(30):
        assert await two.text(await waiting) == "Hello."
    assert two.placed == [large, small, large]


async def test_node_that_does_not_come_back_is_named(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    await only_the_second_can_hold_it(two)
    await two.second.stop()
    await until(lambda: two.fleet.seen()[1].lost_s is not None)
    monkeypatch.setattr(fleet_module, "BACK_WITHIN_S", 0.3)
    with pytest.raises(NodeAway, match="second"):
        await two.submit(model=LARGE)
    assert not two.first.got(Generate)
    # Long after that the node that is left says itself why it cannot.
    monkeypatch.setattr(fleet_module, "_LOST_LATELY_S", 0.0)
    assert await two.text(await two.submit(model=LARGE)) == "Hello."


async def test_what_its_lost_node_had_not_begun_waits_there_too(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.first.report, two.second.report = sized(two.first, 100), sized(two.second, 10_000)
    two.second.default = HELD
    stream = await two.submit(model=LARGE, renders_only=True)
    await until(lambda: two.second.got(Generate))
    monkeypatch.setattr(fleet_module, "BACK_WITHIN_S", 0.3)
    await two.second.stop()
    with pytest.raises(EngineUnavailable, match="second"):
        await two.text(stream)
    assert not two.first.got(Generate)


@pytest.mark.parametrize(("total_bytes", "is_waited_for"), [(10_000, True), (100, False)])
async def test_node_that_was_never_heard_is_waited_for_where_it_would_fit(
    two: Two, monkeypatch: pytest.MonkeyPatch, total_bytes: int, *, is_waited_for: bool
) -> None:
    """A web process that has just begun knows of it what it said when it joined."""
    monkeypatch.setattr(fleet_module, "BACK_WITHIN_S", 0.3)
    two.first.report = sized(two.first, 100)
    await two.second.stop()
    where, announced = two.second.socket_path, sized(two.second, total_bytes)
    two.fleet.enlist([Listed(name="second", where=where, announced=announced)])
    if is_waited_for:
        with pytest.raises(NodeAway, match="second"):
            await two.submit(model=LARGE)
    else:
        assert await two.text(await two.submit(model=LARGE)) == "Hello."


async def test_cordoned_node_is_not_waited_for(two: Two) -> None:
    await only_the_second_can_hold_it(two)
    await two.second.stop()
    await until(lambda: two.fleet.seen()[1].lost_s is not None)
    two.enlist(is_cordoned=True)
    assert await two.text(await two.submit(model=LARGE)) == "Hello."


NO_ROOM = Script(pieces=(), failure=FailureCode.NO_ROOM, failure_message="requires more memory")


async def test_what_does_not_fit_when_it_is_measured_goes_to_another_node(two: Two) -> None:
    two.first.default = NO_ROOM
    assert await two.text(await two.submit()) == "Hello."
    assert two.placed == ["first", "second"]
    assert len(two.ends) == 1


async def test_a_node_without_room_is_not_asked_again_for_a_while(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.first.default = NO_ROOM
    await two.text(await two.submit())
    await two.text(await two.submit(user="bob"))
    assert len(two.first.got(Generate)) == 1
    other = structs.replace(MODEL, weights="o" * 64)
    two.first.default = None
    await two.text(await two.submit(model=other, user="carla"))
    assert len(two.first.got(Generate)) == 2
    monkeypatch.setattr(no_room, "_KNOWN_S", 0.0)
    await two.text(await two.submit(user="dave"))
    assert len(two.first.got(Generate)) == 3


async def test_where_no_node_has_room_the_first_says_why_once(two: Two) -> None:
    two.first.default = two.second.default = NO_ROOM
    for _ in range(3):
        two.heard.clear()
        with pytest.raises(LoadFailed, match="requires more memory"):
            await two.text(await two.submit())
        assert len(two.ends) == 1
    # At first each is asked, later one of them: for its numbers.
    assert len(two.first.got(Generate)) + len(two.second.got(Generate)) == 4


async def test_who_has_no_other_node_is_told_why(two: Two) -> None:
    two.first.default = NO_ROOM
    two.enlist(is_cordoned=True)
    with pytest.raises(LoadFailed, match="requires more memory"):
        await two.text(await two.submit())
    assert not two.second.got(Generate)


async def test_a_node_on_which_it_fits_by_no_means_is_no_other_node(two: Two) -> None:
    two.first.default = NO_ROOM
    two.second.report = NodeReport(node="second", total_bytes=1000, places=3)
    with pytest.raises(LoadFailed, match="requires more memory"):
        await two.text(await two.submit(model=structs.replace(MODEL, size_bytes=10_000)))
    assert not two.second.got(Generate)


async def test_who_has_heard_something_is_not_sent_again_for_want_of_room(two: Two) -> None:
    two.first.default = Script(pieces=("a",), failure=FailureCode.NO_ROOM)
    with pytest.raises(LoadFailed):
        await two.text(await two.submit())
    assert not two.second.got(Generate)
