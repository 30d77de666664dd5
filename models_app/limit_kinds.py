"""What a limit is: so much of a unit in a period, for whatever it counts together.

Pure: knows no table, no setting and no Redis; `models_app.limit_store` counts.
"""

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from models_app.limit_store import Spec
from models_app.names import ModelName

# As large as the store can count exactly.
MOST: Final = 10**11
_DAY_MS: Final = 24 * 60 * 60 * 1000
_DECEMBER: Final = 12


class Unit(enum.StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"  # requests that are under way


class Period(enum.StrEnum):
    """How soon a limit is there again; days and months are those of UTC."""

    NONE = ""  # of what is under way
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


_MINUTE_MS: Final = 60_000

# What is told of the one whose limit it is; a user's own needs no word.
_WHOSE: Final = {
    "site": " of the site",
    "team": " of the team",
    "key": " of the key",
    "model": " of the model",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """`amount` of a unit in a period, for whatever `subject` names: `user:5`, `site`.

    `rule` is the row that says so, 0 for a setting. Nothing is counted while no rule holds, so
    that of a day or a month begins anew, with what the ledger has, when another row says it.
    """

    subject: str
    unit: Unit
    period: Period
    amount: int
    rule: int = field(default=0, compare=False)

    @property
    def kind(self) -> str:
        """Whose limit it is: site, team, user, key or model."""
        return self.subject.partition(":")[0]

    def spec(self, now_ms: int) -> Spec:
        """Return the limit in the store's terms."""
        common: dict[str, Any] = {
            "name": self._name(),
            "unit": self.unit.value,
            "amount": self.amount,
            "subject": self.subject,
        }
        key = f"{self.subject}:{self.unit}:{self.period or 'now'}"
        if self.period is Period.NONE:
            return Spec(key=key, **common)
        if self.period is Period.MINUTE:
            return Spec(key=key, period=_MINUTE_MS, **common)
        begins, ends = _day(now_ms) if self.period is Period.DAY else _month(now_ms)
        key = f"{key}:{begins // _DAY_MS}:{self.rule}"
        return Spec(key=key, begins=begins, ends=ends, **common)

    def _name(self) -> str:
        whose = _WHOSE.get(self.kind, "")
        if self.period is Period.NONE:
            return f"requests at the same time{whose}"
        return f"{self.unit} per {self.period}{whose}"


def period_of(spec: Spec) -> Period:
    """Return the period of a limit in the store's terms."""
    if spec.period:
        return Period.MINUTE
    if not spec.ends:
        return Period.NONE
    return Period.DAY if spec.ends - spec.begins == _DAY_MS else Period.MONTH


def model_subject(name: ModelName) -> str:
    """Return what use of a model is counted under: of all its tags together."""
    return "model:" + name.full.rpartition(":")[0].lower()


def _day(now_ms: int) -> tuple[int, int]:
    begins = now_ms // _DAY_MS * _DAY_MS
    return begins, begins + _DAY_MS


def _month(now_ms: int) -> tuple[int, int]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    begins = datetime(now.year, now.month, 1, tzinfo=UTC)
    year, month = (now.year + 1, 1) if now.month == _DECEMBER else (now.year, now.month + 1)
    return _milliseconds(begins), _milliseconds(datetime(year, month, 1, tzinfo=UTC))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
