"""What is left of somebody's limits, in the words of a page. Async, as the store is asked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from models_app import limits
from models_app.errors import LimitsUnavailable
from models_app.limit_kinds import Unit
from models_app.limits import LimitState
from models_app.permissions import Principal

_WHOSE = {
    "user": "you",
    "team": "your team together",
    "key": "this key",
    "site": "everybody here together",
    "model": "everybody who uses the model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLeft:
    """A limit: `name` such as "tokens per day", `whose` use it counts; None: nothing resets."""

    name: str
    whose: str
    amount: int
    remaining: int
    resets_at: datetime | None
    resets_in_s: float

    @property
    def used(self) -> int:
        """How much is used."""
        return self.amount - self.remaining

    @property
    def is_low(self) -> bool:
        """Whether less than a tenth is left."""
        return self.remaining * 10 < self.amount


async def left(principal: Principal) -> list[LimitLeft] | None:
    """Return what every limit of theirs leaves; None: it cannot be told now."""
    try:
        states = await limits.look(principal)
    except LimitsUnavailable:
        return None
    return [_told(state) for state in states]


def _told(state: LimitState) -> LimitLeft:
    limit = state.limit
    is_lasting = limit.unit is not Unit.PARALLEL
    ends = datetime.fromtimestamp((state.now_ms + state.resets_ms) / 1000, UTC)
    return LimitLeft(
        name=f"{limit.unit} per {limit.period}" if is_lasting else "requests at the same time",
        whose=_WHOSE.get(limit.kind, limit.kind),
        amount=limit.amount,
        remaining=max(0, state.remaining),
        resets_at=ends if is_lasting else None,
        resets_in_s=state.resets_ms / 1000,
    )
