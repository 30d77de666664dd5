"""Model names: `[host/][namespace/]model[:tag]` ↔ ModelName (contract/ollama.md 4.7).

Pure text; knows nothing of the database, of who is asking or of what exists.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from models_app.errors import InvalidModelName

DEFAULT_HOST: Final = "registry.ollama.ai"
LIBRARY: Final = "library"
DEFAULT_TAG: Final = "latest"

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
        """Parse a name as a client wrote it. Raises InvalidModelName."""
        _, _, rest = text.strip().rpartition("://")
        rest, tag = _split_tag(rest)
        *front, model = rest.split("/")
        namespace = front.pop() if front else None
        host = "/".join(front) if front else DEFAULT_HOST
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
