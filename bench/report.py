"""Tables in Markdown, and their places in docs/performance.md. Knows no measurement.

A place is the text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
"""

import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.workplace import ROOT

DOCUMENT: Final = ROOT / "docs" / "performance.md"
_OUR_PACKAGES: Final = ("llama-cpp-python", "django", "uvicorn")
_STARTED_S: Final = time.monotonic()


def log(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"[{time.monotonic() - _STARTED_S:6.1f} s] {line}\n")
    sys.stderr.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def milliseconds(seconds: float) -> str:
    """Return a duration with as many digits as can mean something."""
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 - three digits


def verdict(value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """Return a ratio beside what is wanted of it."""
    wanted = "≥" if at_least is not None else "≤"
    limit = at_least if at_least is not None else at_most
    if limit is None:
        return f"{value:.2f}"
    is_met = value >= limit if at_least is not None else value <= limit
    return f"{value:.2f} ({wanted} {limit:g}: {'met' if is_met else '**missed**'})"


def machine(extra: Sequence[str] = ()) -> str:
    """Return one line about when and on what this ran."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"{name} {metadata.version(name)}" for name in _OUR_PACKAGES]
    parts = [
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs, {memory_gib:.0f} GiB",
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
        ", ".join(versions),
        *extra,
    ]
    return "Measured " + "; ".join(parts) + "."


def write_section(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace what stands at a place of the document. Raises ValueError where there is none."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    whole = document.read_text()
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not place.search(whole):
        raise ValueError(f"{document} has no place {begin} … {end}")
    document.write_text(place.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", whole))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
