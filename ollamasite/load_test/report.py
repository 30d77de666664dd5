"""A load test's figures for people and for programs. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from ollamasite.load_test.figures import Percentiles, Summary
from ollamasite.load_test.limit import Limit, Targets

_HEAD: Final = (
    "users", "requests", "failed", "TTFT p50", "p95", "p99", "ITL p50", "p95",
    "queue p50", "p95", "tokens/s", "a user",
)  # fmt: skip
_FEW: Final = 20
_BUSY_CPUS: Final = 0.7
_LATE_S: Final = 0.02


def table(steps: Sequence[Summary]) -> str:
    """Return a table in Markdown, a line for each run; times in milliseconds."""
    rule = ["---:"] * len(_HEAD)
    rows = [_HEAD, rule, *(_row(found) for found in steps)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = (
        " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(f"| {line} |" for line in lines)


def remarks(steps: Sequence[Summary]) -> list[str]:
    """Return what must be known to believe the figures, or not to."""
    kinds = sorted({kind for found in steps for kind in found.failures})
    said = [
        f"Failed: {sum(found.failures.get(kind, 0) for found in steps)} × {kind}." for kind in kinds
    ]
    if any(found.requests < _FEW for found in steps):
        said.append(f"Fewer than {_FEW} requests in a run say little: make --duration longer.")
    cpus = max(found.client_cpus for found in steps)
    lag_s = max(found.client_lag_s for found in steps)
    if cpus > _BUSY_CPUS or lag_s > _LATE_S:
        said.append(
            f"Not to be trusted: the measuring itself used {cpus:.2f} of one core and was up to "
            f"{lag_s * 1000:.0f} ms late. Run it on another machine, or with fewer users."
        )
    return said


def verdict(model: str, limit: Limit, targets: Targets, think_s: float) -> str:
    """Return one sentence: how many users are served, by what was measured."""
    wanted = (
        f"95 of 100 first tokens within {_ms(targets.ttft_s)} ms and following ones within "
        f"{_ms(targets.itl_s)} ms"
    )
    if limit.good is None:
        fewest = limit.bad.users if limit.bad else 0
        whom = "even one user" if fewest == 1 else f"{fewest} users"
        return f"This server does not serve {whom} of {model} at {wanted}."
    good = limit.good
    much = "about" if limit.bad else "at least"
    beyond = f" {limit.bad.users} users are too many." if limit.bad else ""
    return (
        f"This server serves {much} {good.users} users of {model} at {wanted} (measured: "
        f"{_ms(good.ttft_s.p95)} and {_ms(good.itl_s.p95)} ms; prompts of {good.prompt_tokens:.0f} "
        f"and answers of {good.completion_tokens:.0f} tokens, {think_s:g} s of thought between "
        f"them).{beyond}"
    )


def as_json(steps: Sequence[Summary], sentence: str) -> dict[str, Any]:
    """Return all figures; durations in seconds."""
    runs = [
        {**asdict(found), "tokens_per_s_and_user": found.tokens_per_s_and_user} for found in steps
    ]
    return {"runs": runs, "remarks": remarks(steps), "verdict": sentence}


def _row(found: Summary) -> tuple[str, ...]:
    return (
        str(found.users),
        str(found.requests),
        str(found.failed),
        *_all_ms(found.ttft_s),
        *_all_ms(found.itl_s)[:2],
        *_all_ms(found.queue_s)[:2],
        f"{found.tokens_per_s:.1f}",
        f"{found.tokens_per_s_and_user:.1f}",
    )


def _all_ms(values: Percentiles) -> tuple[str, str, str]:
    return _ms(values.p50), _ms(values.p95), _ms(values.p99)


def _ms(seconds: float | None) -> str:
    """Return milliseconds with as many digits as can mean something."""
    if seconds is None:
        return "–"
    value = seconds * 1000
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004 - two digits
