"""Whether a model fits into memory, what must go for it, and how to say that it does not. Pure.

Bytes everywhere. Parses the kernel's texts (proc(5) meminfo, cgroup v2 memory controller) but
reads no files; knows no processes and no llama.cpp.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from inference.engine.runner_messages import Measured, Opened

_MIB: Final = 1024**2
_GIB: Final = 1024**3
# Left to the rest of the machine; of a small machine, an eighth.
_RESERVE_BYTES: Final = 512 * _MIB
# Address space of a runner beside its model: libraries, thread stacks, buffers.
_SLACK_BYTES: Final = 4 * _GIB


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes or will take.

    `gpu_free_bytes` is what its GPUs had to give when it was measured (None: unknown);
    `limit_bytes` bounds the address space of its process (0: no bound).
    """

    system_bytes: int
    gpu_bytes: int = 0
    gpu_free_bytes: int | None = None
    limit_bytes: int = 0

    def after_release(self, gpu_bytes: int) -> "Need":
        """Return the same need when something else has left the GPUs."""
        if self.gpu_free_bytes is None:
            return self
        return replace(self, gpu_free_bytes=self.gpu_free_bytes + gpu_bytes)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is for models.

    `total_bytes` bounds the sum of all models; `free_bytes` is what the machine has to give now
    (None: not asked, the total was set by the operator).
    """

    total_bytes: float = math.inf
    free_bytes: float | None = None


class Holder(Protocol):
    """A runner, as far as memory goes."""

    @property
    def need(self) -> Need:
        """What it has or will have."""

    @property
    def has_it_all(self) -> bool:
        """Whether it has allocated all of it."""


H = TypeVar("H", bound=Holder)


def need_of(measured: Measured, *, files_bytes: int, store_bytes: int) -> Need:
    """Return what a measured model needs.

    `files_bytes`: projector and adapters; `store_bytes`: RAM that the runner may fill with KV
    states later, which counts for its limit only. The limit is generous: mapped weights count as
    address space and may be there a second time in another layout, KV of paused requests too.
    Where there are GPUs, there is none: their libraries reserve address space by the terabyte,
    for a model without a layer on them as well.
    """
    model_bytes = measured.weights_bytes + measured.kv_bytes + measured.compute_bytes
    system = max(0, model_bytes - measured.gpu_bytes) + files_bytes
    limit = 0
    if not measured.gpu_bytes and measured.gpu_free_bytes is None:
        limit = 2 * (model_bytes + files_bytes) + store_bytes + _SLACK_BYTES
    return Need(
        system_bytes=system,
        gpu_bytes=measured.gpu_bytes,
        gpu_free_bytes=measured.gpu_free_bytes,
        limit_bytes=limit,
    )


def taken_by(opened: Opened) -> Need:
    """Return what a model has that is loaded."""
    in_system = max(0, opened.size_bytes - opened.size_vram_bytes)
    return Need(system_bytes=in_system, gpu_bytes=opened.size_vram_bytes)


def available_bytes(capacity: Capacity, holders: Sequence[H], leaving: Sequence[H] = ()) -> float:
    """Return the system memory that a further model may take once those that leave are gone."""
    staying = [holder for holder in holders if holder not in leaving]
    room = capacity.total_bytes - sum(holder.need.system_bytes for holder in staying)
    if capacity.free_bytes is not None:
        freed = sum(holder.need.system_bytes for holder in leaving if holder.has_it_all)
        pending = sum(holder.need.system_bytes for holder in staying if not holder.has_it_all)
        room = min(room, capacity.free_bytes + freed - pending)
    return room


def choose_evictions(
    need: Need, capacity: Capacity, holders: Sequence[H], candidates: Sequence[H]
) -> list[H] | None:
    """Return the first few candidates whose going makes room; None: not even all of them."""
    for count in range(len(candidates) + 1):
        leaving = candidates[:count]
        if lacking(need, capacity, holders, leaving) is None:
            return list(leaving)
    return None


def lacking(
    need: Need, capacity: Capacity, holders: Sequence[H], leaving: Sequence[H] = ()
) -> str | None:
    """Say in Ollama's words why a model does not fit once those that leave are gone, or None."""
    room = available_bytes(capacity, holders, leaving)
    if need.system_bytes > room:
        return _too_large("system", need.system_bytes, room)
    if need.gpu_free_bytes is not None:
        room = need.gpu_free_bytes + sum(holder.need.gpu_bytes for holder in leaving)
        if need.gpu_bytes > room:
            return _too_large("GPU", need.gpu_bytes, room)
    return None


def _too_large(kind: str, wanted: float, room: float) -> str:
    return (
        f"model requires more {kind} memory ({format_bytes(wanted)}) than is "
        f"available ({format_bytes(max(0.0, room))})"
    )


def format_bytes(size: float) -> str:
    """Return a size as Ollama writes it: `5.6 GiB`, `268.8 MiB`, `512 B`."""
    for unit, name in ((1024**4, "TiB"), (_GIB, "GiB"), (_MIB, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


def machine_capacity(meminfo: str, cgroups: Iterable[tuple[str, str, str]]) -> Capacity:
    """Return what the machine can give, less a reserve for everything else on it.

    `meminfo` is /proc/meminfo; `cgroups` are the texts of memory.max, memory.current and
    memory.stat of every group that this process is in.
    """
    values = _table(meminfo.replace(":", " "))
    total = values.get("MemTotal", math.inf) * 1024
    free = values.get("MemAvailable", math.inf) * 1024
    for limit_text, current_text, stat_text in cgroups:
        if not limit_text.strip().isdigit():
            continue  # "max"
        limit, current = int(limit_text), int(current_text or 0)
        # Pages of files are given back when somebody needs the room.
        reclaimable = _table(stat_text).get("inactive_file", 0)
        total, free = min(total, limit), min(free, limit - current + reclaimable)
    reserve = min(_RESERVE_BYTES, total / 8)
    return Capacity(total_bytes=total - reserve, free_bytes=free - reserve)


def _table(text: str) -> dict[str, float]:
    """Return the `name number` lines of a text."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
