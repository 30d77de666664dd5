"""How often somebody has tried what is only worth trying again and again: the guard on guessing.

    attempts.note(Attempt.WRONG_KEY, address)    # raises TooManyAttempts

Tries are counted by address in Redis, for all processes together, in windows that begin anew. An
address is one of 65,536 counters of a window, so that nobody can fill the memory with addresses;
of IPv6 the network counts, as whoever has one address there has all of it. Without Redis every
process counts for itself. Knows no credential, no form and no HTTP.
"""

import enum
import hashlib
import hmac
import ipaddress
import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from models_app.errors import TooManyAttempts
from ollamasite import outages
from ollamasite.client_address import parse_address

_PREFIX: Final = "ollamasite:attempts:"
_TIMEOUT_S: Final = 1.0
_COUNTER_BYTES: Final = 2
_NETWORK_BITS: Final = 64
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


class Attempt(enum.Enum):
    """What is tried."""

    WRONG_KEY = "wrong key"  # an API key that does not hold
    WRONG_INVITE = "wrong invite"  # an invite's link that does not hold
    SIGN_UP = "sign-up"  # an account that is asked for
    SIGN_IN = "sign-in"  # a name and a password, right or wrong


@dataclass(frozen=True, slots=True)
class _Allowance:
    """How many tries there are in a window of seconds; 0: as many as one likes."""

    tries: int
    window_s: int


def note(kind: Attempt, address: str | None) -> None:
    """Count one try from an address. Raises TooManyAttempts where it is one too many.

    Blocks for as long as Redis takes, at most about a second: not for an event loop.
    """
    allowance = _allowance(kind)
    if not allowance.tries:
        return
    now_s = time.time()
    window = int(now_s // allowance.window_s)
    count = _count(f"{kind.value}:{window}", _counter_of(address), allowance.window_s)
    if count > allowance.tries:
        ends_s = (window + 1) * allowance.window_s
        raise TooManyAttempts(wait_s=max(1, math.ceil(ends_s - now_s)))


def network_of(address: str) -> str | None:
    """Return what counts as one address: of IPv6 the /64 network; None where it is no address."""
    known = parse_address(address)
    if known is None:
        return None
    if isinstance(known, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Network(known))
    return str(ipaddress.IPv6Network((int(known), _NETWORK_BITS), strict=False))


def _allowance(kind: Attempt) -> _Allowance:
    match kind:
        case Attempt.WRONG_KEY | Attempt.WRONG_INVITE:
            return _Allowance(settings.WRONG_KEYS_PER_MINUTE, _MINUTE_S)
        case Attempt.SIGN_UP:
            return _Allowance(settings.SIGN_UPS_PER_HOUR, _HOUR_S)
        case Attempt.SIGN_IN:
            return _Allowance(settings.SIGN_INS_PER_MINUTE, _MINUTE_S)


def _counter_of(address: str | None) -> str:
    """Return which counter is an address's: a secret choice, so that nobody picks another's."""
    text = (network_of(address or "") or "").encode()
    digest = hmac.digest(settings.KEY_PEPPER.encode(), b"attempts " + text, hashlib.sha256)
    return digest[:_COUNTER_BYTES].hex()


def _count(window: str, counter: str, lasts_s: int) -> int:
    """Add one and return how many there are, this one among them."""
    key = f"{_PREFIX}{window}"
    try:
        with _redis(settings.REDIS_URL).pipeline(transaction=False) as pipeline:
            pipeline.hincrby(key, counter, 1)
            pipeline.expire(key, 2 * lasts_s)
            found, _ = cast("tuple[int, bool]", tuple(pipeline.execute()))
    except (RedisError, OSError) as error:
        outages.redis.begins(error)
        return _own_counts.add(window, counter)
    outages.redis.ends()
    return found


@lru_cache(maxsize=4)
def _redis(url: str) -> Redis:
    """Return the connections to the Redis at `url`, which threads share."""
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


class _OwnCounts:
    """What this process counts while there is no Redis: of each kind, the window that is on."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[str, dict[str, int]]] = {}

    def add(self, window: str, counter: str) -> int:
        """Add one and return how many there are. A race may lose one: nobody waits for a lock."""
        kind, _, _ = window.rpartition(":")
        known, counts = self._windows.get(kind, ("", {}))
        if known != window:
            counts = {}
            self._windows[kind] = (window, counts)
        counts[counter] = counts.get(counter, 0) + 1
        return counts[counter]


_own_counts: Final = _OwnCounts()
