"""The line about jobs on every page: what it says. Knows no HTTP and no row of a table.

Which jobs it has told of as running is remembered by the browser, so that of each that ends since
the next line says so: one line, on whichever page is open then, for as long as that is open. The
page that asks names them too: an answer that never came has changed what the browser remembers.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from models_app.jobs import JobState
from registry.pages.job_rows import JobRow

_MOST_IDS: Final = 20
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Strip:
    """`job` is the furthest that runs, `done` the last that has ended since it was told of."""

    job: JobRow | None
    done: JobRow | None
    others: int  # that have not ended either
    active_ids: Sequence[str]
    ended_ids: Sequence[str]

    @property
    def poll_s(self) -> int:
        """How soon to ask again."""
        return 5 if self.active_ids else 30

    @property
    def active(self) -> str:
        """Those that have not ended, as a cookie and the next question name them."""
        return ".".join(self.active_ids)

    @property
    def ended(self) -> str:
        """The ended ones as the next question names them."""
        return ".".join(self.ended_ids)


def parse_ids(text: str) -> list[str]:
    """Return the ids of jobs that a cookie or a query names; what is none is left out."""
    return [part for part in text.split(".") if _ID.fullmatch(part)][:_MOST_IDS]


def tell(rows: Iterable[JobRow], *, known: Collection[str], shown: Collection[str]) -> Strip:
    """Return what to say. `known`: told of as running; `shown`: as ended, on the page that asks."""
    found = list(rows)
    active = sorted((row for row in found if row.is_active), key=_precedence)
    ended = [row for row in found if not row.is_active and row.job_id in {*known, *shown}]
    return Strip(
        job=next(iter(active), None),
        done=next(iter(ended), None),
        others=max(0, len(active) - 1),
        active_ids=[row.job_id for row in active][:_MOST_IDS],
        ended_ids=[row.job_id for row in ended][:_MOST_IDS],
    )


def _precedence(row: JobRow) -> tuple[bool, bool, int]:
    is_running = row.state == JobState.RUNNING
    return not row.is_own, not is_running, -(row.percent or 0)
