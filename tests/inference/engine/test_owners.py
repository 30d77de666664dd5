"""Copies of requests: which of them begins, and that every other one is ended once."""

import asyncio
from collections.abc import Callable

import pytest

from inference.engine.connection import Connection
from inference.engine.owners import Owners, Request
from inference.messages import Events, Failed, FailureCode, Load, ModelRef, RunnerOptions, Wire


class Web(Connection):
    """A connection that keeps what it is to send."""

    def __init__(self) -> None:
        self.request_ids: set[str] = set()
        self.sent: list[Wire] = []

    def send(self, message: Wire) -> None:
        self.sent.append(message)

    @property
    def ends(self) -> list[tuple[str, FailureCode]]:
        """What it was told."""
        told = [
            event
            for message in self.sent
            if isinstance(message, Events)
            for event in message.events
        ]
        return [(event.request_id, event.code) for event in told if isinstance(event, Failed)]


CANCELLED = [("r", FailureCode.CANCELLED)]


class Lab:
    """One request "r" of a lost connection, which the node still believes in."""

    def __init__(self) -> None:
        self.begun: list[Connection] = []
        self.owners = Owners(self._begin)
        self.old, self.new, self.newest = Web(), Web(), Web()
        self.owners.own(self.old, "r")

    def _begin(self, connection: Connection, request: Request) -> None:
        self.owners.own(connection, request.request_id)
        self.begun.append(connection)

    def comes_again(self, connection: Connection) -> None:
        model = ModelRef(name="m", digest="d" * 64, weights="w" * 64)
        load = Load(request_id="r", model=model, runner=RunnerOptions(num_ctx=512))
        self.owners.wait_for_first(connection, load)

    async def first_ends(self) -> None:
        self.owners.disown("r")
        await asyncio.sleep(0)

    @property
    def has_none(self) -> bool:
        return "r" not in self.owners and not self.new.request_ids


@pytest.fixture
async def lab() -> Lab:
    return Lab()


async def test_copy_begins_when_the_first_has_ended(lab: Lab) -> None:
    lab.comes_again(lab.new)
    assert lab.owners.of("r") is lab.old
    await lab.first_ends()
    assert lab.owners.of("r") is lab.new
    assert (lab.begun, lab.new.ends) == ([lab.new], [])
    assert (lab.old.request_ids, lab.new.request_ids) == (set(), {"r"})


@pytest.mark.parametrize(
    "give_up",
    [
        lambda lab: lab.owners.drop_copy("r", of=lab.new),
        lambda lab: lab.owners.drop_copy("r"),
    ],
    ids=["cancelled", "withdrawn"],
)
async def test_copy_that_is_given_up_is_told_so_once_and_never_begins(
    lab: Lab, give_up: Callable[[Lab], bool]
) -> None:
    lab.comes_again(lab.new)
    assert give_up(lab)
    assert not give_up(lab)
    await lab.first_ends()
    assert (lab.begun, lab.new.ends) == ([], CANCELLED)
    assert lab.has_none


async def test_copy_may_be_given_up_between_the_firsts_end_and_its_beginning(lab: Lab) -> None:
    lab.comes_again(lab.new)
    lab.owners.disown("r")
    assert "r" in lab.owners
    assert lab.owners.drop_copy("r", of=lab.new)
    await asyncio.sleep(0)
    assert (lab.begun, lab.new.ends) == ([], CANCELLED)


async def test_copy_of_a_lost_connection_never_begins(lab: Lab) -> None:
    lab.comes_again(lab.new)
    lab.owners.forget_copies(lab.old)
    lab.owners.forget_copies(lab.new)
    await lab.first_ends()
    assert (lab.begun, lab.new.sent) == ([], [])
    assert lab.has_none


async def test_who_lost_the_first_copy_does_not_cancel_the_second(lab: Lab) -> None:
    lab.comes_again(lab.new)
    assert not lab.owners.drop_copy("r", of=lab.old)
    await lab.first_ends()
    assert lab.begun == [lab.new]


async def test_of_several_copies_the_last_one_begins(lab: Lab) -> None:
    lab.comes_again(lab.new)
    lab.comes_again(lab.newest)
    await lab.first_ends()
    assert (lab.begun, lab.newest.ends, lab.new.ends) == ([lab.newest], [], CANCELLED)


async def test_nothing_is_left_only_when_copies_have_ended_too(lab: Lab) -> None:
    waiting = asyncio.create_task(lab.owners.wait_until_none_left())
    lab.comes_again(lab.new)
    await lab.first_ends()
    await asyncio.sleep(0)
    assert not waiting.done()
    lab.owners.disown("r")
    await asyncio.wait_for(waiting, 10)
