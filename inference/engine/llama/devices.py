"""`python -m inference.engine.llama.devices`: prints the GPUs that ggml has, as JSON.

ggml's device registry: ggml/include/ggml-backend.h.
"""

import ctypes
import sys
from pathlib import Path
from typing import Final

import llama_cpp
import msgspec

from inference.messages import Device

_CPU: Final = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_ACCELERATOR: Final = 3  # …_ACCEL: helps the CPU and has no memory of its own
_NAME: Final = {"win32": "ggml.dll", "darwin": "libggml.dylib"}.get(sys.platform, "libggml.so")


def devices() -> list[Device]:
    """Return the devices with memory of their own, or shared with the CPU as on a Mac."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / _NAME))
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_pointer, size_pointer]
    library.ggml_backend_dev_memory.restype = None
    found = []
    for number in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(number)
        if library.ggml_backend_dev_type(device) in {_CPU, _ACCELERATOR}:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = library.ggml_backend_dev_description(device).decode("utf-8", "replace")
        found.append(Device(name=name, total_bytes=total.value, free_bytes=free.value))
    return found


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(devices()).decode())
