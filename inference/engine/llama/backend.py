"""Starting llama.cpp in this process, and its log. Knows no model."""

import ctypes
import functools
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

import llama_cpp
import llama_cpp.llama_cpp as lib

logger = logging.getLogger(__name__)

LIBRARIES: Final = Path(llama_cpp.__file__).parent / "lib"
_GGML: Final = {"win32": "ggml.dll", "darwin": "libggml.dylib"}.get(sys.platform, "libggml.so")
_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR
_KEPT_LINES: Final = 400
_UNIT: Final = " MiB"
_LOG_LEVELS: Final = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}


class _Log:
    """Keeps llama.cpp's log callback alive, the last lines about sizes and the last error."""

    def __init__(self) -> None:
        self.last_error = ""
        self.sizes: list[str] = []
        self.callback = lib.llama_log_callback(self._on_line)
        lib.llama_log_set(self.callback, ctypes.c_void_p(0))
        load_backends()
        lib.llama_backend_init()

    def _on_line(self, level: int, text: bytes, _data: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if not line:
            return
        if level >= _ERROR:
            self.last_error = line
        if _UNIT in line:
            self.sizes.append(line)
            del self.sizes[:-_KEPT_LINES]
        logger.log(_LOG_LEVELS.get(level, logging.DEBUG), "%s", line)


_logs: list[_Log] = []


def start_backend() -> None:
    """Start llama.cpp and catch its log. A second call does nothing."""
    if not _logs:
        _logs.append(_Log())


@functools.cache
def ggml() -> ctypes.CDLL:
    """Return the library beneath llama.cpp, which has the backends and their devices."""
    return ctypes.CDLL(str(LIBRARIES / _GGML))


def load_backends() -> None:
    """Have ggml load its backends, where they are files of their own (GGML_BACKEND_DL).

    Of those for the CPU it takes the best for this processor. One for GPUs that does not load,
    for want of a driver, is left out.
    """
    if not ggml().ggml_backend_reg_count():
        ggml().ggml_backend_load_all_from_path(os.fsencode(LIBRARIES))


def log_callback() -> Any:
    """Return the callback, for libraries that have a log of their own."""
    return _logs[0].callback


def last_error() -> str:
    """Return the last line of the log that was an error."""
    return _logs[0].last_error if _logs else ""


def take_sizes() -> list[str]:
    """Return the lines with sizes since the last call."""
    lines = list(_logs[0].sizes)
    _logs[0].sizes.clear()
    return lines
