"""Typed readers of the process environment; a bad value stops the start with a sentence.

Only `ollamasite.settings` uses this module. Knows nothing of what the values mean.
"""

import ipaddress
import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import environ
from django.core.exceptions import ImproperlyConfigured

from ollamasite.durations import parse_duration_s
from ollamasite.outbound.hosts import HostEntry
from ollamasite.sizes import parse_size

S = TypeVar("S")
T = TypeVar("T")

_LEAST_SECRET = 16
_TRUE = frozenset({"1", "true", "yes", "on"})
_DATABASE_ENGINES = frozenset({"django.db.backends.sqlite3", "django.db.backends.postgresql"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Environment:
    """Reads named values and collects what is known about them for `documented()`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._names: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """Every name that has been asked for; a test compares them with the README."""
        return frozenset(self._names)

    def text(self, name: str, default: str = "") -> str:
        """Return the value without surrounding blanks."""
        self._names.add(name)
        return self._values.get(name, default).strip()

    def secret(self, name: str) -> str:
        """Return a text that nobody guesses, or none at all. Refusals do not repeat it."""
        text = self.text(name)
        if text and len(text) < _LEAST_SECRET:
            raise ImproperlyConfigured(
                f"{name} is too short: set it to at least {_LEAST_SECRET} random characters."
            )
        return text

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true for 1/true/yes/on, false for 0/false/no/off."""
        return self._parse(name, _parse_flag, default, "1 or 0")

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        """Return a whole number of at least `minimum`."""

        def parse(text: str) -> int:
            if (number := int(text)) < minimum:
                raise ValueError
            return number

        return self._parse(name, parse, default, f"a whole number of at least {minimum}")

    def seconds(self, name: str, default: float) -> float:
        """Return a duration in seconds: `300`, `90s`, `5m`, `1h30m`, or `-1` for endless."""
        return self._parse(name, parse_duration_s, default, "a duration such as 300, 90s or 5m")

    def size(self, name: str, default: T) -> int | T:
        """Return a number of bytes: `1073741824`, `512MiB`, `12GiB` or `12G`."""
        return self._parse(name, parse_size, default, "a size such as 12GiB, 512MiB or 1073741824")

    def names_list(self, name: str, default: str = "") -> list[str]:
        """Return a comma-separated list without its empty items."""
        return [item.strip() for item in self.text(name, default).split(",") if item.strip()]

    def origins(self, name: str) -> list[str]:
        """Return a comma-separated list of `scheme://host[:port]`, each with at most one `*`."""
        items = [item.lower().rstrip("/") for item in self.names_list(name)]
        for item in items:
            if item.count("*") > 1 or (item != "*" and "://" not in item):
                raise ImproperlyConfigured(
                    f"{name}: {item!r} cannot be used: write origins such as https://chat.example "
                    "or https://*.example, or * for every origin."
                )
        return items

    def hosts(self, name: str, default: str = "") -> list[str]:
        """Return a comma-separated list of `[http://]host[:port]`, `*` among them."""
        items = self.names_list(name, default)
        for item in items:
            try:
                HostEntry.parse(item)
            except ValueError as error:
                raise ImproperlyConfigured(
                    f"{name}: {item!r} cannot be used: write hosts such as images.example, "
                    "images.example:8443 or http://images.lan, or * for every public host."
                ) from error
        return items

    def networks(self, name: str) -> list[str]:
        """Return a comma-separated list of addresses and CIDR blocks, IPv4 and IPv6."""
        found = []
        for item in self.names_list(name):
            try:
                found.append(str(ipaddress.ip_network(item, strict=False)))
            except ValueError as error:
                raise ImproperlyConfigured(
                    f"{name}: {item!r} cannot be used: write addresses or networks such as "
                    "127.0.0.1, 10.0.0.0/8 or fd00::/8."
                ) from error
        return found

    def secrets_by_host(self, name: str) -> dict[str, str]:
        """Return `host[:port]=user:password` items by host. Refusals do not repeat them."""
        found: dict[str, str] = {}
        for item in self.names_list(name):
            host, _, secret = item.partition("=")
            if not host or ":" not in secret:
                raise ImproperlyConfigured(
                    f"{name} cannot be used: write host=user:password, with commas between several."
                )
            found[host.strip().lower()] = secret
        return found

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """Return one of the given values."""

        def parse(text: str) -> str:
            if text not in choices:
                raise ValueError(text)
            return text

        return self._parse(name, parse, default, f"one of {', '.join(sorted(choices))}")

    def time_zone(self, name: str, default: str) -> str:
        """Return the name of a time zone that this machine knows."""

        def parse(text: str) -> str:
            return ZoneInfo(text).key

        return self._parse(name, parse, default, "a time zone such as UTC or Europe/Berlin")

    def path(self, name: str, default: Path) -> Path:
        """Return an absolute path; `~` is the home directory."""
        text = self.text(name)
        return Path(text).expanduser().resolve() if text else default.expanduser().resolve()

    def database(self, name: str, default: str) -> dict[str, Any]:
        """Return a DATABASES entry from a URL such as `postgres://user@host/name`.

        The URL may hold a password, so the refusal does not repeat it.
        """
        try:
            return _parse_database_url(self.text(name) or default)
        except (ValueError, KeyError, UserWarning, ImproperlyConfigured) as error:
            raise ImproperlyConfigured(
                f"{name} cannot be used: set it to a database URL such as "
                "postgres://user:password@host/name, or unset it."
            ) from error

    def _parse(self, name: str, parse: Callable[[str], S], default: T, wanted: str) -> S | T:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse(text)
        except (ValueError, KeyError, ImproperlyConfigured) as error:
            raise ImproperlyConfigured(
                f"{name}={text!r} cannot be used: set it to {wanted}, or unset it."
            ) from error


def _parse_database_url(text: str) -> dict[str, object]:
    with warnings.catch_warnings():
        # The library only warns about a scheme that it does not know.
        warnings.simplefilter("error", UserWarning)
        config: dict[str, object] = dict(environ.Env.db_url_config(text))
    if config.get("ENGINE") not in _DATABASE_ENGINES:
        raise ValueError
    return config


def _parse_flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


env = Environment(os.environ)
