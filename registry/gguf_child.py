"""The process that reads one uploaded GGUF file: `python -m registry.gguf_child`.

Gets a `Request` on its input and writes an `Answer` to its output. `registry.gguf_process` starts
it and sets its limits; this module knows nothing of them.
"""

import os
import sys

import msgspec

from registry.errors import GgufError
from registry.gguf import GgufFile, read_open_gguf


class Request(msgspec.Struct, frozen=True):
    """What to read. The file comes as an inherited descriptor."""

    descriptor: int
    with_arrays: bool


class Answer(msgspec.Struct, frozen=True):
    """What the file says, or else why it is refused."""

    file: GgufFile | None = None
    error: str = ""


def answer(request: Request) -> Answer:
    """Read the file."""
    with os.fdopen(request.descriptor, "rb") as file:
        try:
            return Answer(file=read_open_gguf(file, with_arrays=request.with_arrays))
        except GgufError as error:
            return Answer(error=error.message)
        except MemoryError:
            return Answer(error="the GGUF file's metadata takes too much memory")


def main() -> None:
    """Answer the one request."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(answer(request)) + b"\n")


if __name__ == "__main__":
    main()
