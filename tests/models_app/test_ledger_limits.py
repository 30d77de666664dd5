"""What limits hold for a request whose process was killed is settled with the ledger's row."""

from functools import partial
from pathlib import Path

from asgiref.sync import sync_to_async
from django.test import override_settings

from models_app import limits
from models_app.ledger_journal import End, Figures, Journal, Settled
from models_app.ledger_recovery import Told, recover
from models_app.ledger_writer import LedgerWriter
from models_app.models import User
from tests.conftest import principal_for
from tests.limited import SetLimits, redis_socket, redis_url, set_limits
from tests.models_app.test_ledger import begin

__all__ = ["redis_socket", "redis_url", "set_limits"]

A_DAY = 5000
RESERVED = 800
USED = Figures(tokens_in=30, tokens_out=12)


async def left_of_the_day(user: User) -> int:
    [state] = await limits.look(principal_for(user))
    return state.remaining


async def leave_behind(
    folder: Path,
    user: User,
    *,
    end: Figures | None = None,
    is_settled: bool = False,
    held: int = RESERVED,
) -> None:
    """Let a request in, perhaps end it, and die: its tokens stay held."""
    before = await left_of_the_day(user)
    charge = await limits.reserve(principal_for(user), tokens=held)
    name = charge.request_id
    record = begin(name, messages=("m",), user_id=user.pk, bill=charge.record())
    journal = Journal(folder)
    journal.append([record])
    if end is not None:
        journal.append([End(request_id=name, at_us=record.at_us, outcome="done", figures=end)])
    if is_settled:
        journal.append([Settled(name)])
    journal.close()
    assert await left_of_the_day(user) == before - held


async def test_lost_request_counts_as_what_it_has_used_and_once(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice)

    for _ in range(2):
        await sync_to_async(recover)(tmp_path, lambda _: Told({"m": USED}))
        assert await left_of_the_day(alice) == A_DAY - 42


async def test_request_whose_node_is_still_waited_for_stays_held(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice)

    await sync_to_async(recover)(tmp_path, lambda _: Told({}))
    assert await left_of_the_day(alice) == A_DAY - RESERVED


async def test_request_that_ended_unsettled_is_settled_by_whoever_recovers_it(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice, end=USED)

    for _ in range(2):
        assert await sync_to_async(recover)(tmp_path, lambda _: Told({})) is False
        assert await left_of_the_day(alice) == A_DAY - 42
    assert list(tmp_path.iterdir()) == []


async def test_what_is_known_to_be_settled_is_left_alone(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice, end=USED, is_settled=True)

    await sync_to_async(recover)(tmp_path, lambda _: Told({}))
    assert await left_of_the_day(alice) == A_DAY - RESERVED


async def test_journal_stays_until_its_requests_are_settled(
    transactional_db: None,
    alice: User,
    set_limits: SetLimits,
    tmp_path: Path,
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice, end=USED)
    await leave_behind(tmp_path, alice, end=USED, held=A_DAY - RESERVED)
    with override_settings(REDIS_URL="unix:///nowhere/redis.sock"):
        await sync_to_async(recover)(tmp_path, lambda _: Told({}))
    is_left = len(list(tmp_path.iterdir()))
    await sync_to_async(recover)(tmp_path, lambda _: Told({}))

    assert (is_left, list(tmp_path.iterdir())) == (2, [])
    assert await left_of_the_day(alice) == A_DAY - 2 * 42


async def test_settled_requests_leave_the_journal_and_others_stay_in_it(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    writer = LedgerWriter(tmp_path)
    charges = [await limits.reserve(principal_for(alice), tokens=RESERVED) for _ in range(2)]
    for charge in charges:
        name = charge.request_id
        charge.tell_settled(partial(writer.settled, name))
        record = begin(name, user_id=alice.pk, bill=charge.record())
        writer.begin(record, Figures)
        writer.end(End(request_id=name, at_us=record.at_us, outcome="done"))
    await charges[0].settle_soon()
    await sync_to_async(writer.write)()
    [path] = tmp_path.iterdir()
    with_one_unsettled = path.stat().st_size
    await charges[1].settle_soon()
    await sync_to_async(writer.write)()

    assert with_one_unsettled > 0
    assert path.stat().st_size == 0
    writer.close()
