"""The option table (contract/ollama.md 5): names, types, defaults, and how they are merged.

Pure: knows no HTTP, no model and no llama.cpp. Precedence is default < Modelfile < request.
Unknown names are ignored, as Ollama does, so nothing internal can be reached through them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from inference.errors import InvalidOption
from inference.messages import RunnerOptions, Sampling

_MAX_INT: Final = 2**31 - 1
MIN_CONTEXT_TOKENS: Final = 4


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f'option "{name}" must be of type integer')
    if not math.isfinite(value):
        raise InvalidOption(f'option "{name}" must be a finite number')
    return max(-_MAX_INT, min(_MAX_INT, int(value)))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f'option "{name}" must be of type float32')
    if not math.isfinite(value):
        raise InvalidOption(f'option "{name}" must be a finite number')
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(f'option "{name}" must be of type boolean')
    return value


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidOption(f'option "{name}" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise InvalidOption(f'option "{name}" must be of an array of strings')
    return tuple(value)


_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "num_ctx": _integer,
    "num_batch": _integer,
    "num_gpu": _integer,
    "main_gpu": _integer,
    "use_mmap": _flag,
    "num_thread": _integer,
    "num_keep": _integer,
    "seed": _integer,
    "num_predict": _integer,
    "top_k": _integer,
    "top_p": _number,
    "min_p": _number,
    "typical_p": _number,
    "temperature": _number,
    "repeat_last_n": _integer,
    "repeat_penalty": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "stop": _strings,
}


def merge(
    model_parameters: Mapping[str, Any], request_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the known options of both, checked, the request's winning; null is "not given".

    Raises InvalidOption for a wrong type in the request's options. A wrong type in the model's
    parameters is ignored: whoever asks cannot mend it.
    """
    merged: dict[str, Any] = {}
    for name, value in model_parameters.items():
        if name in _READERS and value is not None:
            try:
                merged[name] = _READERS[name](name, value)
            except InvalidOption:
                continue
    for name, value in request_options.items():
        if name in _READERS and value is not None:
            merged[name] = _READERS[name](name, value)
    return merged


def runner_options(options: Mapping[str, Any], *, default_num_ctx: int) -> RunnerOptions:
    """Return what the runner is started with, out of merged options."""
    num_ctx = options.get("num_ctx", default_num_ctx)
    num_batch = options.get("num_batch", 0)
    num_gpu = options.get("num_gpu")
    return RunnerOptions(
        num_ctx=max(MIN_CONTEXT_TOKENS, num_ctx),
        num_batch=num_batch if num_batch > 0 else RunnerOptions(num_ctx=1).num_batch,
        num_gpu=num_gpu if num_gpu is not None and num_gpu >= 0 else None,
        main_gpu=options.get("main_gpu"),
        use_mmap=options.get("use_mmap"),
        num_thread=options.get("num_thread") or None,
    )


def sampling(options: Mapping[str, Any]) -> Sampling:
    """Return how tokens are chosen, out of merged options."""
    seed = options.get("seed")
    num_predict = options.get("num_predict", 0)
    plain = {
        name: options[name]
        for name in (
            "num_keep",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "repeat_last_n",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
        )
        if name in options
    }
    return Sampling(
        # 0 and every negative value mean "no limit of its own" (contract 5, 11).
        num_predict=num_predict if num_predict > 0 else None,
        seed=seed if seed is not None and seed >= 0 else None,
        stop=tuple(text for text in options.get("stop", ()) if text),
        **plain,
    )
