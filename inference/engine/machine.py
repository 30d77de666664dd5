"""What this machine has: memory and processors, read from Linux' own files.

Where those files do not exist there is no limit known. Knows nothing of models.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inference.engine.memory import Capacity, machine_capacity

_MEMINFO: Final = Path("/proc/meminfo")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def cpu_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def read_capacity() -> Capacity:
    """Return what models may take of this machine's memory now."""
    return machine_capacity(_text(_MEMINFO), _cgroup_texts())


def file_bytes(path: str) -> int:
    """Return a file's size; one that is not there is found missing by who opens it."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def offer_to_oom_killer(pid: int) -> None:
    """Make a process the first that the kernel ends when memory runs out, if that is allowed."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    except OSError:
        return  # it may be gone, or this is not Linux: nothing depends on it


def _cgroup_texts() -> Iterator[tuple[str, str, str]]:
    for group in _own_groups():
        limit = _text(group / "memory.max")
        if limit:
            yield limit, _text(group / "memory.current"), _text(group / "memory.stat")


def _own_groups() -> list[Path]:
    """Return this process's group of the unified hierarchy and all above it."""
    for line in _text(_OWN_CGROUP).splitlines():
        if line.startswith("0::"):
            relative = line.removeprefix("0::").strip("/")
            group = _CGROUPS / relative
            return [group, *(p for p in group.parents if p.is_relative_to(_CGROUPS))]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
