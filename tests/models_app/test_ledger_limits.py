"""What limits hold for a request whose process was killed is settled with the ledger's row."""

from pathlib import Path

from asgiref.sync import sync_to_async

from models_app import limits
from models_app.ledger_journal import Figures, Journal
from models_app.ledger_recovery import recover
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


async def leave_behind(folder: Path, user: User) -> None:
    """Let a request in, and die: its tokens stay held."""
    charge = await limits.reserve(principal_for(user), tokens=RESERVED)
    record = begin(charge.request_id, messages=("m",), user_id=user.pk, bill=charge.record())
    journal = Journal(folder)
    journal.append([record])
    journal.close()
    assert await left_of_the_day(user) == A_DAY - RESERVED


async def test_lost_request_counts_as_what_it_has_used_and_once(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice)

    for _ in range(2):
        await sync_to_async(recover)(tmp_path, lambda _: {"m": USED})
        assert await left_of_the_day(alice) == A_DAY - 42


async def test_request_whose_node_is_still_waited_for_stays_held(
    transactional_db: None, alice: User, set_limits: SetLimits, tmp_path: Path
) -> None:
    set_limits(tokens_a_day=A_DAY)
    await leave_behind(tmp_path, alice)

    await sync_to_async(recover)(tmp_path, lambda _: {})
    assert await left_of_the_day(alice) == A_DAY - RESERVED
