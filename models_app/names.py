"""Model names: `[scheme://][host/][namespace/]model[:tag]` ↔ ModelName (contract/ollama.md 4.7).

A `:local` at the end asks for what every model of this site is, and is dropped. `:cloud` asks for
a model that runs elsewhere: here it is a tag like any other, which no model has by itself.
Pure text; knows nothing of the database, of who is asking or of what exists.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from models_app.errors import ConflictingSuffixes, InvalidModelName

DEFAULT_HOST: Final = "registry.ollama.ai"
LIBRARY: Final = "library"
DEFAULT_TAG: Final = "latest"

_LOCAL: Final = "local"
_CLOUD: Final = "cloud"
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A parsed name. `namespace` is None where the text named none (a bare name)."""

    model: str
    tag: str = DEFAULT_TAG
    namespace: str | None = None
    host: str = DEFAULT_HOST

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Parse a name as a client wrote it, blanks around it aside.

        Raises InvalidModelName, and ConflictingSuffixes for `x:cloud:local`.
        """
        rest, tag = _split_tag(_without_source(text.strip()))
        front, slash, model = rest.rpartition("/")
        host, namespace = _split_front(front) if slash else (DEFAULT_HOST, None)
        is_valid = (
            _PART.fullmatch(model)
            and _PART.fullmatch(tag)
            and (namespace is None or _NAMESPACE.fullmatch(namespace))
            and _HOST.fullmatch(host)
        )
        if not is_valid:
            raise InvalidModelName
        return cls(model=model, tag=tag, namespace=namespace, host=host)

    def within(self, namespace: str) -> "ModelName":
        """Return the same name in a namespace."""
        return replace(self, namespace=namespace)

    @property
    def short(self) -> str:
        """The display form: default host and library are left out, the tag never is."""
        namespace = self.namespace or LIBRARY
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{namespace}/{self.model}:{self.tag}"
        if namespace != LIBRARY:
            return f"{namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """The name with every part written out."""
        return f"{self.host}/{self.namespace or LIBRARY}/{self.model}:{self.tag}"


def _split_tag(text: str) -> tuple[str, str]:
    head, colon, tail = text.rpartition(":")
    if colon and "/" not in tail:
        return head, tail
    return text, DEFAULT_TAG


def _split_front(text: str) -> tuple[str, str]:
    """Split what stands before the model into host and namespace; a host may bring a scheme."""
    host, slash, namespace = text.rpartition("/")
    if not slash:
        return DEFAULT_HOST, text
    _, scheme_end, rest = host.partition("://")
    return (rest if scheme_end else host), namespace


def _without_source(text: str) -> str:
    """Return the name without a `:local`. Raises ConflictingSuffixes."""
    head, source = _split_source(text)
    if source is None:
        return text
    if _split_source(head)[1] is not None:
        raise ConflictingSuffixes(text)
    return head if source == _LOCAL else text


def _split_source(text: str) -> tuple[str, str | None]:
    """Split off where a name asks its model to run: at `local`, `cloud` or no matter (None)."""
    head, colon, tail = text.rpartition(":")
    source = tail.strip().lower()
    if not colon:
        return text, None
    if source in {_LOCAL, _CLOUD}:
        return head, source
    if source.endswith(f"-{_CLOUD}") and "/" not in source:
        return text[: -len(f"-{_CLOUD}")], _CLOUD
    return text, None
