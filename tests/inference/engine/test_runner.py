"""A runner over a FakeModel: messages in, steps out, also through its socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inference.engine.runner import Channel, Runner, serve
from inference.engine.runner_messages import Charge, FromRunner, OpenModel, Pause, Resume, Step
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import (
    Cancel,
    Embed,
    Embedded,
    Event,
    Failed,
    FailureCode,
    Finished,
    ModelRef,
    Rendered,
    RunnerOptions,
    Started,
    Token,
    Wire,
)
from tests.inference.engine.fake_embedder import FakeEmbedder
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import asked

WAIT_S = 30


def runner_of(model: FakeModel | None, parallel: int = 2) -> Runner:
    return Runner(model, FakeEmbedder, parallel=parallel, store_bytes=0)


class Bench:
    """A runner whose steps are done until something has come."""

    def __init__(self, model: FakeModel | None = None) -> None:
        self.runner = runner_of(model or FakeModel())
        self.events: list[Event] = []
        self.charges: list[Charge] = []

    def until(self, is_done: Callable[[list[Event]], bool]) -> None:
        latest = time.monotonic() + WAIT_S
        while not is_done(self.events):
            assert time.monotonic() < latest
            step = self.runner.step()
            self.events += step.events
            self.charges += step.charges
            time.sleep(0.001)

    def ends(self) -> dict[str, Finished | Failed]:
        return {e.request_id: e for e in self.events if isinstance(e, Finished | Failed)}

    def text(self, request_id: str) -> str:
        return "".join(
            e.text for e in self.events if isinstance(e, Token) and e.request_id == request_id
        )

    def until_ended(self, *request_ids: str) -> None:
        self.until(lambda _: set(request_ids) <= set(self.ends()))


def embed(request_id: str, *texts: str) -> Embed:
    return Embed(
        request_id=request_id,
        model=ModelRef(name="tiny:latest", digest="d" * 64, weights="w1"),
        runner=RunnerOptions(num_ctx=256),
        inputs=texts,
    )


def test_a_request_is_prepared_and_answered() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1", "hello"))
    bench.until_ended("r1")
    assert bench.text("r1") == "HELLO"
    assert sum(charge.completion_tokens for charge in bench.charges) == 6


def test_a_request_that_cannot_be_prepared_is_refused() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1", ""))
    bench.until_ended("r1")
    end = bench.ends()["r1"]
    assert isinstance(end, Failed)
    assert end.code is FailureCode.BAD_REQUEST


def test_a_request_that_is_only_rendered_is_answered_without_computing() -> None:
    model = FakeModel()
    bench = Bench(model)
    bench.runner.receive(asked("r1", "hello", renders_only=True))
    bench.until_ended("r1")
    assert [type(event) for event in bench.events] == [Rendered, Finished]
    assert (model.batches, bench.charges) == ([], [])
    assert bench.runner.may_sleep_s is None


def test_a_request_can_be_paused_before_it_is_rendered() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1", "hello", renders_only=True))
    bench.runner.receive(Pause(request_id="r1"))
    bench.until_ended("r1")
    bench.runner.receive(asked("r1", "again"))
    bench.until(lambda events: any(isinstance(e, Token) for e in events))


def test_a_runner_is_idle_before_its_first_request_and_after_its_last() -> None:
    bench = Bench()
    idle = [bench.runner.may_sleep_s]
    bench.runner.receive(asked("r1"))
    bench.until(lambda events: any(isinstance(e, Started) for e in events))
    idle.append(bench.runner.may_sleep_s)
    bench.until_ended("r1")
    idle.append(bench.runner.may_sleep_s)
    assert idle == [None, 0, None]


def test_a_running_request_is_cancelled() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1", "x" * 100))
    bench.until(lambda events: any(isinstance(e, Token) for e in events))
    bench.runner.receive(Cancel(request_id="r1"))
    bench.until_ended("r1")
    end = bench.ends()["r1"]
    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED


def test_a_request_that_is_still_prepared_is_cancelled_at_once() -> None:
    class Held(FakeModel):
        def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
            assert may_go.wait(WAIT_S)
            return super().tokenize(text, parse_special=parse_special)

    may_go = threading.Event()
    bench = Bench(Held())
    bench.runner.receive(asked("r1"))
    bench.runner.receive(Cancel(request_id="r1"))
    assert bench.runner.may_sleep_s == 0
    events = bench.runner.step().events
    may_go.set()
    assert [type(e) for e in events] == [Failed]
    bench.runner.receive(asked("r2"))
    bench.until_ended("r2")
    assert set(bench.ends()) == {"r2"}


def test_cancelling_what_has_ended_says_nothing() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1"))
    bench.until_ended("r1")
    bench.runner.receive(Cancel(request_id="r1"))
    assert bench.runner.step() == Step()


def test_a_paused_request_waits_until_it_is_resumed() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1"))
    bench.runner.receive(Pause(request_id="r1"))
    bench.runner.receive(asked("r2"))
    bench.until_ended("r2")
    assert bench.text("r1") == ""
    bench.runner.receive(Resume(request_id="r1"))
    bench.until_ended("r1")
    assert bench.text("r1") == "HELLO"


def test_inputs_are_embedded_beside_answers() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1"))
    bench.runner.receive(embed("e1", "abc", "de"))
    bench.until_ended("r1", "e1")
    assert sum(len(e.vectors) for e in bench.events if isinstance(e, Embedded)) == 2
    assert bench.text("r1") == "HELLO"


def test_a_model_that_has_grown_is_told_once() -> None:
    model = FakeModel()

    def make_embedder() -> FakeEmbedder:
        model.size_bytes += 1000
        return FakeEmbedder()

    runner = Runner(model, make_embedder, parallel=1, store_bytes=0)
    runner.receive(embed("e1", "abc"))
    sizes = [runner.step().size_bytes for _ in range(3)]
    assert sizes == [model.size_bytes, 0, 0]


def test_a_model_for_embeddings_only_refuses_to_generate() -> None:
    runner = runner_of(None)
    runner.receive(asked("r1"))
    assert runner.may_sleep_s == 0
    (refused,) = runner.step().events
    assert isinstance(refused, Failed)
    assert refused.code is FailureCode.BAD_REQUEST


def test_a_model_for_embeddings_only_embeds() -> None:
    runner = runner_of(None)
    runner.receive(embed("e1", "abc"))
    events: list[Event] = []
    while runner.may_sleep_s == 0:
        events += runner.step().events
    assert isinstance(events[-1], Finished)
    assert runner.wakes_on is None


# ---------------------------------------------------------------- through the socket


class Node:
    """The node's end of a runner's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._decoder: FrameDecoder[Wire] = FrameDecoder(FromRunner)
        connection.settimeout(WAIT_S)

    def send(self, *messages: Wire) -> None:
        self.socket.sendall(b"".join(map(encode, messages)))

    def steps(self) -> Iterator[Step]:
        while True:
            for message in self._decoder.feed(self.socket.recv(1 << 16)):
                assert isinstance(message, Step)
                yield message

    def until_ended(self, *request_ids: str) -> list[Step]:
        steps, missing = [], set(request_ids)
        for step in self.steps():
            steps.append(step)
            missing -= {e.request_id for e in step.events if isinstance(e, Finished | Failed)}
            if not missing:
                break
        return steps


@pytest.fixture
def served() -> Iterator[tuple[Node, threading.Thread]]:
    ours, theirs = socket.socketpair()
    runner = runner_of(FakeModel())
    thread = threading.Thread(target=serve, args=(Channel(theirs), runner))
    thread.start()
    yield Node(ours), thread
    ours.close()
    thread.join(WAIT_S)
    theirs.close()
    assert not thread.is_alive()


def text_of(steps: list[Step], request_id: str) -> str:
    events: list[Any] = [event for step in steps for event in step.events]
    return "".join(e.text for e in events if isinstance(e, Token) and e.request_id == request_id)


def test_requests_are_served_through_the_socket(served: tuple[Node, threading.Thread]) -> None:
    node, _ = served
    node.send(asked("r1", "hello"), asked("r2", "bye"), embed("e1", "abc"))
    steps = node.until_ended("r1", "r2", "e1")
    assert text_of(steps, "r1") == "HELLO"
    assert text_of(steps, "r2") == "BYE"
    assert sum(c.completion_tokens for step in steps for c in step.charges) == 6 + 4


def test_a_sleeping_runner_wakes_for_a_request(served: tuple[Node, threading.Thread]) -> None:
    node, _ = served
    for number in range(3):
        node.send(asked(f"r{number}"))
        assert text_of(node.until_ended(f"r{number}"), f"r{number}") == "HELLO"


def test_a_runner_beats_while_it_works(served: tuple[Node, threading.Thread]) -> None:
    node, _ = served
    node.send(asked("r1", "x" * 50))
    assert len(node.until_ended("r1")) >= 51


def test_the_sockets_end_is_the_order_to_leave(served: tuple[Node, threading.Thread]) -> None:
    node, thread = served
    node.send(asked("r1", "hello"))
    node.until_ended("r1")
    node.socket.shutdown(socket.SHUT_WR)
    thread.join(WAIT_S)
    assert not thread.is_alive()


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, Channel]]:
    """The node's end, and the channel at the runner's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Channel(theirs)


def test_a_message_in_pieces_is_waited_for(wire: tuple[socket.socket, Channel]) -> None:
    ours, channel = wire
    frame = encode(
        OpenModel(path="m.gguf", options=RunnerOptions(num_ctx=1), parallel=1, threads=1)
    )
    ours.sendall(frame[:7])
    late = threading.Timer(0.05, ours.sendall, [frame[7:]])
    late.start()
    assert isinstance(channel.next(), OpenModel)
    late.join()


def test_a_node_that_goes_before_its_first_message_leaves_none(
    wire: tuple[socket.socket, Channel],
) -> None:
    ours, channel = wire
    ours.close()
    assert channel.next() is None
    assert not channel.is_open


def test_receiving_without_waiting_returns_at_once(wire: tuple[socket.socket, Channel]) -> None:
    _, channel = wire
    assert channel.receive(0) == []
    assert channel.is_open


def test_bytes_that_are_no_message_are_an_error(wire: tuple[socket.socket, Channel]) -> None:
    ours, channel = wire
    ours.sendall(b"\x00\x00\x00\x02hi")
    with pytest.raises(ProtocolError):
        channel.next()


def test_a_pause_that_comes_after_the_end_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.runner.receive(asked("r1"))
    bench.until_ended("r1")
    bench.runner.receive(Pause(request_id="r1"))
    bench.runner.receive(asked("r1"))
    bench.events.clear()
    bench.until_ended("r1")
    assert isinstance(bench.ends()["r1"], Finished)
