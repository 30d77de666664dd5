"""The option table (contract/ollama.md 5): names, types, ranges, defaults, and how they are merged.

Pure: knows no HTTP, no model and no llama.cpp. Precedence is default < Modelfile < request.
Unknown names are ignored, as Ollama does, so nothing internal can be reached through them; a
number outside its range is brought into it, as llama.cpp would compute nonsense with it or fall
over. Old options that mean nothing to this engine are read for their type only (README).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from inference.errors import InvalidOption
from inference.messages import RunnerOptions, Sampling

_MAX_INT: Final = 2**31 - 1
_HUGE: Final = 2**62
# llama.cpp's highest seed, 2^32 - 1, asks for a random one.
_SEEDS: Final = 2**32 - 1
MIN_CONTEXT_TOKENS: Final = 4
MAX_CONTEXT_TOKENS: Final = 2**24
MAX_STOP_STRINGS: Final = 256

_Reader = Callable[[str, Any], Any]


def _checked_number(name: str, value: Any, kind: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f'option "{name}" must be of type {kind}', param=name)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidOption(f'option "{name}" must be a finite number', param=name)
    # Far outside of every range, and still something that fits into a float.
    return max(-_HUGE, min(_HUGE, value))


def _integer(low: int = -_MAX_INT, high: int = _MAX_INT) -> _Reader:
    def read(name: str, value: Any) -> int:
        return max(low, min(high, int(_checked_number(name, value, "integer"))))

    return read


def _number(low: float, high: float) -> _Reader:
    def read(name: str, value: Any) -> float:
        return max(low, min(high, float(_checked_number(name, value, "float32"))))

    return read


def _count_or_none(high: int) -> _Reader:
    """Return a reader for counts where 0 and everything below leave the choice to the engine."""

    def read(name: str, value: Any) -> int | None:
        count = int(_checked_number(name, value, "integer"))
        return min(high, count) if count > 0 else None

    return read


def _index_or_none(high: int) -> _Reader:
    """Return a reader for numbers where only the negative ones leave the choice to the engine."""

    def read(name: str, value: Any) -> int | None:
        index = int(_checked_number(name, value, "integer"))
        return min(high, index) if index >= 0 else None

    return read


def _number_or_none(low: float, high: float) -> _Reader:
    """Return a reader for numbers where 0 and everything below mean what the model's file says."""

    def read(name: str, value: Any) -> float | None:
        number = float(_checked_number(name, value, "float32"))
        return max(low, min(high, number)) if number > 0 else None

    return read


def _seed(name: str, value: Any) -> int | None:
    seed = int(_checked_number(name, value, "integer"))
    return seed % _SEEDS if seed >= 0 else None


def _mirostat(name: str, value: Any) -> int:
    version = int(_checked_number(name, value, "integer"))
    return version if version in {1, 2} else 0


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(f'option "{name}" must be of type boolean', param=name)
    return value


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidOption(f'option "{name}" must be of type array', param=name)
    if not all(isinstance(item, str) for item in value):
        raise InvalidOption(f'option "{name}" must be of an array of strings', param=name)
    if len(value) > MAX_STOP_STRINGS:
        raise InvalidOption(
            f'option "{name}" must be of at most {MAX_STOP_STRINGS} strings', param=name
        )
    return tuple(text for text in value if text)


_RUNNER: Final[dict[str, _Reader]] = {
    "num_ctx": _integer(MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS),
    "num_batch": _count_or_none(4096),
    "num_gpu": _index_or_none(10_000),
    "main_gpu": _index_or_none(255),
    "use_mmap": _flag,
    "num_thread": _count_or_none(512),
    "rope_frequency_base": _number_or_none(1.0, 1e12),
    "rope_frequency_scale": _number_or_none(1e-6, 1e6),
    "f16_kv": _flag,
    "use_mlock": _flag,
    "numa": _flag,
}
_SAMPLING: Final[dict[str, _Reader]] = {
    # 0 and every negative value mean "no limit of its own" (contract 5, 11).
    "num_predict": _count_or_none(_MAX_INT),
    "num_keep": _integer(-1, _MAX_INT),
    "seed": _seed,
    "temperature": _number(0.0, 100.0),
    "top_k": _integer(0, _MAX_INT),
    "top_p": _number(0.0, 1.0),
    "min_p": _number(0.0, 1.0),
    "typical_p": _number(0.0, 1.0),
    # llama.cpp keeps a ring of so many tokens for every request.
    "repeat_last_n": _integer(-1, 2**18),
    "repeat_penalty": _number(0.01, 100.0),
    "presence_penalty": _number(-100.0, 100.0),
    "frequency_penalty": _number(-100.0, 100.0),
    "mirostat": _mirostat,
    "mirostat_tau": _number(0.0, 100.0),
    "mirostat_eta": _number(0.0, 10.0),
    "stop": _strings,
}
# Ollama does not look at these any more (contract 5): any value passes.
_REMOVED: Final = frozenset(
    {"num_gqa", "low_vram", "logits_all", "vocab_only", "tfs_z", "penalize_newline"}
)
_DRAFTING: Final[dict[str, _Reader]] = {"draft_num_predict": _integer()}
WITHOUT_EFFECT: Final = _REMOVED | frozenset(_DRAFTING)
_READERS: Final[dict[str, _Reader]] = {**_RUNNER, **_SAMPLING, **_DRAFTING}


def merge(
    model_parameters: Mapping[str, Any], request_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the known options of both in their ranges, the request's winning.

    null is "not given". A value of None in the result: as if the engine were to choose. Raises
    InvalidOption for a wrong type in the request's options. A wrong type in the model's parameters
    is ignored: whoever asks cannot mend it.
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
    given = _given(options, _RUNNER)
    return RunnerOptions(**{"num_ctx": max(MIN_CONTEXT_TOKENS, default_num_ctx), **given})


def sampling(options: Mapping[str, Any]) -> Sampling:
    """Return how tokens are chosen, out of merged options."""
    return Sampling(**_given(options, _SAMPLING))


def _given(options: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in names if options.get(name) is not None}
