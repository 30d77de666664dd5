"""What a client is told of its limits, in the words of OpenAI's API and of Anthropic's.

Of each unit the limit that leaves the least. Knows no limit's rules and no Redis.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from models_app.limit_kinds import Unit
from models_app.limit_store import State

_SECOND_MS: Final = 1000
# Of what is under way neither API tells anything.
_TOLD: Final = (Unit.REQUESTS, Unit.TOKENS)


def openai_headers(states: Sequence[State]) -> dict[str, str]:
    """Return the headers of OpenAI's API."""
    headers: dict[str, str] = {}
    for unit, state in _tightest(states).items():
        headers[f"x-ratelimit-limit-{unit}"] = str(state.spec.amount)
        headers[f"x-ratelimit-remaining-{unit}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{unit}"] = written(state.reset)
    return headers


def anthropic_headers(states: Sequence[State], now_ms: int) -> dict[str, str]:
    """Return the headers of Anthropic's API, in which times are RFC 3339."""
    headers: dict[str, str] = {}
    for unit, state in _tightest(states).items():
        name = f"anthropic-ratelimit-{unit}"
        headers[f"{name}-limit"] = str(state.spec.amount)
        headers[f"{name}-remaining"] = str(state.remaining)
        headers[f"{name}-reset"] = moment(now_ms + state.reset)
    return headers


def written(duration_ms: int) -> str:
    """Return a duration as OpenAI writes it: 120ms, 7.66s, 6m0s, 1h0m5s."""
    if 0 < duration_ms < _SECOND_MS:
        return f"{duration_ms}ms"
    minutes, rest_ms = divmod(duration_ms, 60 * _SECOND_MS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ms / _SECOND_MS:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def moment(at_ms: int) -> str:
    """Return a moment as RFC 3339 writes it, in whole seconds that are not too early."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=-(-at_ms // _SECOND_MS))
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tightest(states: Sequence[State]) -> Mapping[Unit, State]:
    """Return, by unit, the state that leaves the least, and of several the one that lasts."""
    found: dict[Unit, State] = {}
    for unit in _TOLD:
        of_unit = [state for state in states if state.spec.unit == unit]
        if of_unit:
            found[unit] = min(of_unit, key=lambda state: (state.remaining, -state.reset))
    return found
