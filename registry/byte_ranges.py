"""Which part of a file a request is about: `Range` and `Content-Range` as the registry reads them.

RFC 9110 section 14; for uploads the OCI distribution spec, "Pushing a blob in chunks". Pure text;
knows nothing of files and of HTTP messages.
"""

import re
from dataclasses import dataclass
from typing import Final

from registry.errors import RangeNotSatisfiable

_RANGES: Final = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=(.*)")
_ONE: Final = re.compile(r"\s*([0-9]{0,30})\s*-\s*([0-9]{0,30})\s*")
_CHUNK: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file; both ends belong to it, and it has at least one byte."""

    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return self.last - self.first + 1


def parse_range(header: str, size_bytes: int) -> ByteRange | None:
    """Return the part of a file of so many bytes that a `Range` header asks for.

    None: the whole, which is also the answer to several ranges at once and to other units.
    Raises RangeNotSatisfiable where the file has no such part or the header makes no sense.
    """
    found = _RANGES.fullmatch(header)
    if found is None or found[1].lower() != "bytes" or "," in found[2]:
        return None
    one = _ONE.fullmatch(found[2])
    if one is None:
        raise RangeNotSatisfiable(size_bytes)
    first, last = _ends(one[1], one[2], size_bytes)
    if first > last:
        raise RangeNotSatisfiable(size_bytes)
    return ByteRange(first, last)


def parse_chunk(header: str) -> ByteRange | None:
    """Return what a `Content-Range` header of an upload says: `<first>-<last>`, and nothing else.

    None where it makes no sense.
    """
    found = _CHUNK.fullmatch(header)
    if found is None or int(found[1]) > int(found[2]):
        return None
    return ByteRange(int(found[1]), int(found[2]))


def _ends(first: str, last: str, size_bytes: int) -> tuple[int, int]:
    end = size_bytes - 1
    if first:
        return int(first), min(int(last), end) if last else end
    if not last or int(last) == 0:
        return size_bytes, end  # nothing is asked for
    return max(0, size_bytes - int(last)), end
