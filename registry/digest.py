"""The SHA-256 digest that names every stored file.

Pure text; knows nothing of files. Format: contract/registry.md 1.2.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from registry.errors import InvalidDigest

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Digest:
    """64 lower-case hex digits."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Parse `sha256:<hex>` or `sha256-<hex>`. Raises InvalidDigest for anything else."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidDigest
        return cls(match[1])

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """Return the digest of some bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def file_name(self) -> str:
        """The name of the blob's file."""
        return f"sha256-{self.hex}"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
