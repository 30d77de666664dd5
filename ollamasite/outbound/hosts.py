"""Which hosts may be asked: lists such as `models.example, http://images.lan:8000, *`.

Pure text; looks no name up and sends nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_ENTRY: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>\*|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_ANY: Final = "*"
DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One entry of a list: `[http://]host[:port]` or `*` for every public host.

    Without a port, a named host is asked at its scheme's own port and `*` stands for any. Plain
    http is used only where the entry is written with `http://`, and https there as well.
    """

    host: str  # lower case, IPv6 without brackets, or "*"
    port: int | None = None
    allows_plain_http: bool = False

    @classmethod
    def parse(cls, text: str) -> "HostEntry":
        """Read one entry. Raises ValueError."""
        found = _ENTRY.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(text)
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port < 1 << 16:
            raise ValueError(text)
        return cls(found["host"].strip("[]"), port, allows_plain_http=found["scheme"] == "http")

    @property
    def is_named(self) -> bool:
        """Whether the entry is one host and not every public one."""
        return self.host != _ANY

    def covers(self, scheme: str, host: str, port: int) -> bool:
        """Whether a request to this place is meant."""
        if scheme != "https" and not (scheme == "http" and self.allows_plain_http):
            return False
        if not self.is_named:
            return self.port in (None, port)
        return host == self.host and port == (self.port or DEFAULT_PORTS[scheme])


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts that one use of the client may ask."""

    entries: tuple[HostEntry, ...]
    # Hosts that may have an address inside, where an entry names them as well.
    private: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str], *, private: Iterable[str] = ()) -> "AllowedHosts":
        """Read a list of entries, and the names of those that may be inside. Raises ValueError."""
        inside = (HostEntry.parse(text) for text in private)
        return cls(
            entries=tuple(HostEntry.parse(text) for text in entries),
            private=frozenset(entry.host for entry in inside if entry.is_named),
        )

    def permit(self, scheme: str, host: str, port: int) -> bool:
        """Whether this place may be asked; `host` in lower case."""
        return any(entry.covers(scheme, host, port) for entry in self.entries)

    def permit_inside(self, host: str, port: int | None = None) -> bool:
        """Whether this host may have a private address: listed as such and named besides.

        Where a port is given, it has to be one that the host is named with.
        """
        if host not in self.private:
            return False
        named = (entry for entry in self.entries if entry.is_named and entry.host == host)
        return any(
            port is None or any(entry.covers(scheme, host, port) for scheme in DEFAULT_PORTS)
            for entry in named
        )
