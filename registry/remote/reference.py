"""Model names → where another registry has them, if this site goes there.

contract/registry.md 1.1 and 1.12. Pure text and settings; sends nothing.
"""

from dataclasses import dataclass, replace
from typing import Final

from django.conf import settings

from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from ollamasite.errors import OutboundRefused
from ollamasite.outbound.hosts import DEFAULT_PORTS, AllowedHosts, HostEntry
from ollamasite.outbound.urls import Target, parse_url
from registry.errors import RegistryNotAllowed

# Names of one registry: requests go to the one that its challenges speak of.
_SAME_REGISTRY: Final = {"hf.co": "huggingface.co"}


@dataclass(frozen=True, slots=True)
class Origin:
    """A registry: what credentials and files in part belong to."""

    scheme: str  # "https" or "http"
    host: str  # lower case
    port: int

    @classmethod
    def of(cls, target: Target) -> "Origin":
        """Return the origin of an address; the two names of Hugging Face are one."""
        return cls(target.scheme, _SAME_REGISTRY.get(target.host, target.host), target.port)

    @property
    def authority(self) -> str:
        """`host`, or `host:port` where the port is not the scheme's own."""
        is_usual = self.port == DEFAULT_PORTS[self.scheme]
        return self.host if is_usual else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model of another registry."""

    origin: Origin
    repository: str  # `namespace/model`
    tag: str

    @classmethod
    def parse(
        cls, name: ModelName, *, scheme_in_text: str | None = None, is_insecure: bool = False
    ) -> "RemoteModel":
        """Return where a name leads. Raises RegistryNotAllowed.

        Plain http is spoken where the caller asks for it (`insecure`), or where the site's list has
        the registry with `http://` and the name does not say https.
        """
        text = settings.DEFAULT_REGISTRY if name.host == DEFAULT_HOST else name.host
        origin = _origin(text, scheme_in_text, is_insecure=is_insecure)
        return cls(origin, f"{name.namespace or LIBRARY}/{name.model}", name.tag)

    @property
    def path(self) -> str:
        """The repository's part of every URL path."""
        return f"/v2/{self.repository}"


def scheme_of(text: str) -> str | None:
    """Return the scheme that a name was written with, in lower case, or None."""
    scheme, separator, _ = text.strip().partition("://")
    return scheme.lower() if separator else None


def hosts_for(origin: Origin) -> AllowedHosts:
    """Return where requests about a registry may go: to it, and by redirects to public hosts.

    A registry that the site's list names may have a private address.
    """
    asked = HostEntry(origin.host, origin.port, allows_plain_http=origin.scheme == "http")
    listed = _listed()
    return AllowedHosts(
        entries=(asked, *listed, HostEntry.parse("*")),
        private=frozenset(entry.host for entry in listed if entry.is_named),
    )


def is_meant_plainly(origin: Origin) -> bool:
    """Whether those who run the site have named a registry with `http://` themselves."""
    place = (origin.scheme, origin.host, origin.port)
    return any(entry.is_named and entry.covers(*place) for entry in _listed())


def _listed() -> list[HostEntry]:
    entries = [HostEntry.parse(text) for text in settings.ALLOWED_REGISTRIES]
    # Either name of a registry allows the other, which its redirects and challenges use.
    others = {one: other for pair in _SAME_REGISTRY.items() for one, other in (pair, pair[::-1])}
    twins = [replace(entry, host=others[entry.host]) for entry in entries if entry.host in others]
    return [*entries, *twins]


def _origin(text: str, scheme_in_text: str | None, *, is_insecure: bool) -> Origin:
    try:
        asked = HostEntry.parse(text)
        listed = _listed()
    except ValueError as error:
        raise RegistryNotAllowed(text) from error
    # The default registry may be set with a scheme.
    wanted = "http" if asked.allows_plain_http else scheme_in_text
    for scheme in ("http", "https"):
        port = asked.port or DEFAULT_PORTS[scheme]
        allowed = listed if scheme == "https" else _plain(listed, wanted, is_insecure=is_insecure)
        if scheme == "https" and is_insecure:
            break
        if any(entry.covers(scheme, asked.host, port) for entry in allowed):
            return Origin(scheme, _SAME_REGISTRY.get(asked.host, asked.host), port)
    raise RegistryNotAllowed(text)


def _plain(listed: list[HostEntry], wanted: str | None, *, is_insecure: bool) -> list[HostEntry]:
    """Return the entries for which plain http may be spoken."""
    named = [entry for entry in listed if entry.is_named]
    if is_insecure:  # to a registry of the list one may speak so, if one asks for it
        return [replace(entry, allows_plain_http=True) for entry in named]
    if wanted == "https":
        return []
    return listed if wanted == "http" else named


def origin_of(url: str) -> Origin | None:
    """Return the origin of a URL, or None where it is none that requests go to."""
    try:
        return Origin.of(parse_url(url))
    except OutboundRefused:
        return None
