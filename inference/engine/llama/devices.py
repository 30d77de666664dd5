"""`python -m inference.engine.llama.devices`: prints the GPUs that ggml has, as JSON.

ggml's device registry: ggml/include/ggml-backend.h.
"""

import ctypes
import sys
from typing import Final

import msgspec

from inference.engine.llama import backend
from inference.engine.runner_messages import FoundDevices
from inference.messages import Device

_CPU: Final = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_ACCELERATOR: Final = 3  # …_ACCEL: helps the CPU and has no memory of its own
_FOR_GPUS: Final = ("cuda", "hip", "musa", "sycl", "vulkan")


def devices() -> tuple[Device, ...]:
    """Return the devices with memory of their own, or shared with the CPU as on a Mac."""
    backend.load_backends()
    library = backend.ggml()
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
    return tuple(found)


def problem() -> str:
    """Return why none of the GPUs can be used that this build is for; empty: it is for none.

    To be asked where there is no device, after `backend.start_backend`.
    """
    for name in _FOR_GPUS:
        path = backend.LIBRARIES / f"libggml-{name}.so"
        if path.exists():
            return f"{name.upper()}: {_why_unused(str(path))}"
    return ""


def find() -> FoundDevices:
    """Return what there is."""
    backend.start_backend()
    found = devices()
    return FoundDevices(devices=found, problem="" if found else problem())


def _why_unused(path: str) -> str:
    try:
        ctypes.CDLL(path)
    except OSError as error:
        return str(error)
    return backend.last_error() or "there is no device"


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(find()).decode())
