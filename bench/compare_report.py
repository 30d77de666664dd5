"""The table of a comparison. Knows no server."""

from collections.abc import Sequence

from bench import report
from bench.compare import SHAPE, Comparison

_HEAD = (
    "model, load",
    "tokens/s",
    "ratio",
    "TTFT p50 ms",
    "ratio",
    "TTFT p95 ms",
    "ratio",
    "between tokens p50 ms",
    "ratio",
    "p99 ms",
    "ratio",
)


def to_markdown(found: Sequence[Comparison], rounds: int) -> str:
    """Return the table and what is needed to read it."""
    rows = [_row(each) for each in found]
    note = (
        f"Each cell: ours / theirs, the median of {rounds} rounds that took turns; a ratio is "
        f"ours/theirs. {SHAPE.slots} slots of {SHAPE.window_tokens} tokens and {SHAPE.threads} "
        "threads on both sides, temperature 0."
    )
    return "\n\n".join([report.table(_HEAD, rows), note, *_remarks(found)])


def _row(each: Comparison) -> list[str]:
    speed_ours, speed_theirs = each.medians("tokens_per_s")
    cells = [
        f"{each.model}, {each.scenario.name}",
        f"{speed_ours:.1f} / {speed_theirs:.1f}",
        report.verdict(speed_ours / speed_theirs, at_least=each.wanted_speed),
    ]
    # At one user and warm, nothing is asked of the TTFT but that it is told.
    has_ttft_target = each.scenario.users > 1 and not each.scenario.is_warm
    for figure in ("ttft_p50_s", "ttft_p95_s", "gap_p50_s", "gap_p99_s"):
        ours, theirs = each.medians(figure)
        wanted = each.scenario.max_ttft if figure == "ttft_p50_s" and has_ttft_target else None
        cells.append(f"{report.milliseconds(ours)} / {report.milliseconds(theirs)}")
        cells.append(report.verdict(ours / theirs, at_most=wanted))
    return cells


def _remarks(found: Sequence[Comparison]) -> list[str]:
    idle = [run.idle_cpu for each in found for run in (*each.ours, *each.theirs)]
    lines = [f"The server whose turn it was not used at most {max(idle):.2f} CPUs."]
    for each in found:
        ours, theirs = each.medians("completion_tokens")
        if ours != theirs:
            lines.append(
                f"{each.model}, {each.scenario.name}: answers had {ours:.0f} tokens here and "
                f"{theirs:.0f} there; tokens/s counts those that came."
            )
    return lines
