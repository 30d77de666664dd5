"""The process that quantizes one model: `python -m inference.engine.llama.quantize`.

Reads a `Request` from its input, writes a `Line` to its output when a tensor is begun and one at
the end. Who starts it sets its limits and checks both files (`registry.quantize`, which this
module does not know). llama.cpp tells its progress and its errors in its log only.
"""

import ctypes
import os
import re
import sys
from typing import Any, BinaryIO, Final

import llama_cpp.llama_cpp as lib
import msgspec

from inference.engine.llama import backend
from inference.engine.machine import offer_to_oom_killer

_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR
_NICENESS: Final = 10  # answers come first
_BUFFER_BYTES: Final = 1024**3  # of rows that llama.cpp keeps before it writes them
_TENSOR: Final = re.compile(r"^\[\s*\d+/\s*\d+\]\s+(.+?)\s+- \[")


class Request(msgspec.Struct, frozen=True):
    """Descriptors of both files, llama.cpp's number of the wanted type, how many threads."""

    source: int
    target: int
    file_type: int
    threads: int


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tensor that is begun, or the end with an error or without."""

    tensor: str = ""
    error: str = ""
    is_done: bool = False


class Log:
    """Reads llama.cpp's log: tensors are told at once, the last error is kept."""

    def __init__(self, output: BinaryIO) -> None:
        self.last_error = ""
        self._output = output

    def on_text(self, level: int, text: bytes, _data: Any) -> None:
        """Take a piece of the log; llama.cpp begins one with each tensor."""
        piece = text.decode("utf-8", "replace").strip()
        if level >= _ERROR and piece:
            self.last_error = piece
        elif found := _TENSOR.match(piece):
            self.tell(Line(tensor=found[1]))

    def tell(self, line: Line) -> None:
        """Write a line to whoever waits for it; the process ends if nobody does any longer."""
        try:
            self._output.write(msgspec.json.encode(line) + b"\n")
            self._output.flush()
        except OSError:
            # An exception would be lost in llama.cpp, which calls this and goes on for hours.
            os._exit(1)


def quantize(request: Request, log: Log) -> str:
    """Quantize and return what went wrong, empty if nothing did."""
    callback = lib.llama_log_callback(log.on_text)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    backend.load_backends()
    lib.llama_backend_init()
    params = lib.llama_model_quantize_default_params()
    params.ftype = request.file_type
    params.nthread = request.threads
    params.max_buf_size = _BUFFER_BYTES
    failed = lib.llama_model_quantize(
        _path_of(request.source), _path_of(request.target), ctypes.byref(params)
    )
    return (log.last_error or "llama.cpp does not say why") if failed else ""


def main() -> None:
    """Answer the one request."""
    offer_to_oom_killer(os.getpid())
    os.nice(_NICENESS)
    # What libraries print must not come between our lines.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    log = Log(output)
    log.tell(Line(error=quantize(request, log), is_done=True))


def _path_of(descriptor: int) -> bytes:
    return f"/proc/self/fd/{descriptor}".encode()


if __name__ == "__main__":
    main()
