"""URL text → where a request goes. Read once: what is checked is what is connected to.

RFC 3986, stricter: two readers that disagree about a URL are how checks are got round, so what
anybody could read in another way is refused. Looks no name up.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import httpx2

from ollamasite.errors import OutboundRefused
from ollamasite.outbound.hosts import DEFAULT_PORTS

MAX_URL_CHARACTERS: Final = 8192
_SHOWN_CHARACTERS: Final = 200
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|[0-9a-f:.]*:[0-9a-f:.]*")
_AUTHORITY: Final = re.compile(r"[^:/?#]*://([^/?#]*)")
# No user, not even an empty one; a port without a sign and digits of other scripts.
_PLAIN: Final = re.compile(r"(?:\[[^\[\]@]*\]|[^:\[\]@]+)(?::[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    scheme: str  # "https" or "http"
    host: str  # ASCII, lower case, without a final dot; IPv6 without brackets
    port: int
    path: str  # percent-encoded, with the query
    text: str = field(compare=False)  # the whole URL, without a fragment

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a credential belongs to."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def join(self, reference: str) -> "Target":
        """Return where a Location header leads from here. Raises OutboundRefused."""
        _refuse_ambiguous(reference)
        try:
            return parse_url(str(httpx2.URL(self.text).join(reference)))
        except httpx2.InvalidURL as error:
            raise OutboundRefused(f"{show_url(reference)} is not a valid URL") from error


def parse_url(text: str) -> Target:
    """Read an absolute http or https URL. Raises OutboundRefused, which names it."""
    _refuse_ambiguous(text)
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise OutboundRefused(f"{show_url(text)} is not a valid URL") from error
    host = url.raw_host.decode("ascii").lower()
    found = _AUTHORITY.match(text)
    authority = found[1] if found else ""
    if "@" in authority:
        raise OutboundRefused("a URL with a user name or password in it is not used")
    if url.scheme not in DEFAULT_PORTS:
        raise OutboundRefused(f"{show_url(text)} is neither an https nor an http URL")
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    is_plain = _PLAIN.fullmatch(authority) and _HOST.fullmatch(host) and not url.userinfo
    if not is_plain or not 0 < port < 1 << 16:
        raise OutboundRefused(f"{show_url(text)} is not a valid URL")
    return Target(
        scheme=url.scheme,
        host=host.rstrip("."),
        port=port,
        path=url.raw_path.decode("ascii"),
        text=str(url.copy_with(fragment=None)),
    )


def show_url(text: str) -> str:
    """Return a URL as messages have it: in quotes, one line, not too long."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return repr(shown)


def _refuse_ambiguous(text: str) -> None:
    # Browsers read `\` as `/`, others as part of a name; blanks are dropped by some and kept by
    # others.
    if len(text) > MAX_URL_CHARACTERS:
        raise OutboundRefused(f"a URL may have {MAX_URL_CHARACTERS} characters")
    if "\\" in text or any(letter.isspace() or not letter.isprintable() for letter in text):
        raise OutboundRefused(f"{show_url(text)} is not a valid URL")
