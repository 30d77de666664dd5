"""What the home page shows of each model, as words and numbers for people.

Pure: knows no HTTP, no engine and no database.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.utils.timesince import timesince

from inference.messages import LoadedModel, LoadedModels
from registry.library import ListedModel

_UNIT_STEP: Final = 1000
_KIBI: Final = 1024
_WHOLE_PERCENT: Final = 100
_JUST_NOW_S: Final = 60


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A model in memory. `leaves_in_s` is None for one that stays.

    `processor` is empty for one that an engine elsewhere computes.
    """

    name: str
    memory: str
    processor: str
    context: str
    leaves_in_s: int | None
    leaves_in: str
    is_loading: bool
    is_busy: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """A model's part of a node's memory. `x` and `width` are per cent of the bar, as text."""

    title: str
    x: str
    width: str
    shade: str  # "1", "2", … as the model's place in the list; "others" for what one may not know


@dataclass(frozen=True, slots=True)
class MemoryBar:
    """A node's memory, as far as it is for models. `total` is empty where nobody knows it."""

    node: str
    used: str
    total: str
    percent: int
    segments: list[Segment]
    others_bytes: int  # what models take that one may not know


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model of the list. Texts are empty where nothing is known."""

    name: str
    size: str
    parameter_size: str
    quantization: str
    context: str
    context_tokens: int | None
    modified_at: datetime
    modified: str
    is_loaded: bool


def loaded_rows(loaded: Iterable[LoadedModel]) -> list[LoadedRow]:
    """Return how the models in memory are shown."""
    return [_loaded_row(model) for model in loaded]


def memory_bar(
    memory: LoadedModels, loaded: Sequence[LoadedModel], *, before: int = 0
) -> MemoryBar:
    """Return how a node's memory is shown to who may know of the models `loaded`.

    `before`: how many models of other nodes come before these in the list.
    """
    used = sum(model.size_bytes for model in memory.models)
    others = used - sum(model.size_bytes for model in loaded)
    whole = max(used, memory.memory_bytes or used, 1)
    parts = [
        (f"{model.name}: {format_bytes(model.size_bytes)}", model.size_bytes, str(place))
        for place, model in enumerate(loaded, before + 1)
        if not _is_elsewhere(model)
    ]
    if others > 0:
        parts.append((f"Models that you cannot see: {format_bytes(others)}", others, "others"))
    return MemoryBar(
        node=memory.node,
        used=format_bytes(used),
        total=format_bytes(whole) if memory.memory_bytes else "",
        percent=round(_WHOLE_PERCENT * used / whole),
        segments=_segments(parts, whole),
        others_bytes=max(0, others),
    )


def _segments(parts: Iterable[tuple[str, int, str]], whole: int) -> list[Segment]:
    found, before = [], 0
    for title, size, shade in parts:
        x, width = _WHOLE_PERCENT * before / whole, _WHOLE_PERCENT * size / whole
        # A gap of a quarter of a per cent lets one tell neighbours apart.
        found.append(Segment(title, f"{x:.2f}", f"{max(0.5, width - 0.25):.2f}", shade))
        before += size
    return found


def model_rows(
    listed: Iterable[ListedModel], *, loaded: Iterable[LoadedModel], now: datetime
) -> list[ModelRow]:
    """Return how the list of models is shown."""
    loaded_digests = {model.digest for model in loaded}
    return [
        _model_row(model, now=now, is_loaded=model.digest in loaded_digests) for model in listed
    ]


def example_model(listed: Sequence[ListedModel]) -> str:
    """Return the model for the examples: the first that can talk, or an empty text."""
    return next((model.name for model in listed if "completion" in model.capabilities), "")


def format_bytes(count: int) -> str:
    """Return a size in decimal units with two figures or more, as `ollama list` does."""
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if round(size) < _UNIT_STEP:
            break
        size, unit = size / _UNIT_STEP, larger
    has_one_figure = round(size, 1) < 10  # noqa: PLR2004 - the first number of two figures
    return f"{size:.1f} {unit}" if has_one_figure and unit != "B" else f"{size:.0f} {unit}"


def format_size(count: int) -> str:
    """Return a size; nothing for a model that has no files here."""
    return format_bytes(count) if count else ""


def format_context(tokens: int) -> str:
    """Return a context length as people say it: `128K`, `4K`, or the number itself."""
    if tokens and tokens % _KIBI == 0:
        return f"{tokens // _KIBI}K"
    return f"{tokens:,}"


def format_duration(seconds: float) -> str:
    """Return `2 h 5 min`, `4 min 32 s`, `4 min` or `9 s`; nothing for an endless time."""
    if math.isinf(seconds):
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    parts = [(hours, "h"), (minute, "min"), (0 if hours else second, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def format_age(moment: datetime, now: datetime) -> str:
    """Return `just now` or `3 days ago`."""
    if (now - moment).total_seconds() < _JUST_NOW_S:
        return "just now"
    return f"{timesince(moment, now, depth=1)} ago"


def _loaded_row(model: LoadedModel) -> LoadedRow:
    stays = model.expires_in_s is None or math.isinf(model.expires_in_s)
    leaves_in_s = None if stays else max(0, round(model.expires_in_s or 0))
    return LoadedRow(
        name=model.name,
        memory="none here" if _is_elsewhere(model) else format_bytes(model.size_bytes),
        processor="" if _is_elsewhere(model) else _processor(model),
        context=f"{model.context_length:,} tokens",
        leaves_in_s=leaves_in_s,
        leaves_in=format_duration(leaves_in_s) if leaves_in_s else "",
        is_loading=model.is_loading,
        is_busy=model.is_busy,
    )


def _is_elsewhere(model: LoadedModel) -> bool:
    """Whether an engine elsewhere has it: it takes nothing."""
    return not model.size_bytes and not model.is_loading


def _model_row(model: ListedModel, *, now: datetime, is_loaded: bool) -> ModelRow:
    context_tokens = model.context_length
    return ModelRow(
        name=model.name,
        size=format_size(model.size_bytes),
        parameter_size=model.parameter_size,
        quantization=model.quantization_level,
        context=format_context(context_tokens) if context_tokens else "",
        context_tokens=context_tokens,
        modified_at=model.modified_at,
        modified=format_age(model.modified_at, now),
        is_loaded=is_loaded,
    )


def _processor(model: LoadedModel) -> str:
    if not model.size_vram_bytes:
        return "CPU"
    share = round(_WHOLE_PERCENT * model.size_vram_bytes / max(1, model.size_bytes))
    return "GPU" if share >= _WHOLE_PERCENT else f"{share}% GPU"
