"""LoRA adapters: loaded with their model, applied to its context. Knows no requests."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib

from inference.engine.llama import backend
from inference.engine.model import LoadError
from inference.engine.runner_messages import AdapterFile


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that llama.cpp has loaded. It is freed with its model."""

    native: Any
    scale: float
    size_bytes: int


def load_adapters(model: Any, files: Sequence[AdapterFile]) -> list[Adapter]:
    """Load adapters for llama.cpp's model `model`, in order. Raises LoadError."""
    return [_load(model, file, number) for number, file in enumerate(files, 1)]


def apply(context: Any, adapters: Sequence[Adapter]) -> None:
    """Let all that `context` computes from now on go through these adapters. Raises LoadError.

    What its KV cache holds already stays as it was computed. Scale 0 is as if it were not there.
    """
    used = [adapter for adapter in adapters if adapter.scale]
    handles = (lib.llama_adapter_lora_p_ctypes * len(used))(
        *(ctypes.cast(adapter.native, lib.llama_adapter_lora_p_ctypes) for adapter in used)
    )
    scales = (ctypes.c_float * len(used))(*(adapter.scale for adapter in used))
    status = lib.llama_set_adapters_lora(context, handles, len(used), scales)
    if status != 0:
        raise LoadError(f"the adapters cannot be applied: {backend.last_error()}")


def _load(model: Any, file: AdapterFile, number: int) -> Adapter:
    if not math.isfinite(file.scale):
        raise LoadError(f"adapter {number}: the scale {file.scale} is not a number to multiply by")
    native = lib.llama_adapter_lora_init(model, file.path.encode())
    if not native:
        reason = backend.last_error() or "unknown reason"
        raise LoadError(f"adapter {number} does not fit the model: {reason}")
    if lib.llama_adapter_get_alora_n_invocation_tokens(native):
        raise LoadError(
            f"adapter {number} is switched on by tokens (aLoRA), which is not supported"
        )
    return Adapter(native, file.scale, Path(file.path).stat().st_size)
