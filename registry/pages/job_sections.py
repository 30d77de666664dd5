"""The sections of the list of jobs. Knows no HTTP and no row of a table."""

from dataclasses import dataclass

from models_app.job_lists import JobLists
from models_app.jobs import JobState
from models_app.permissions import Principal
from registry.pages.job_rows import JobRow, job_rows


@dataclass(frozen=True, slots=True)
class Section:
    """Jobs in the same state, under a title; `name` is for machines."""

    name: str
    title: str
    jobs: list[JobRow]


def sections(lists: JobLists, principal: Principal) -> list[Section]:
    """Return the sections that have something in them, what needs attention before the record."""
    active, ended = job_rows(lists.active, principal), job_rows(lists.ended, principal)
    found = [
        Section("running", "Running", _in(active, JobState.RUNNING)),
        # The line goes from its head.
        Section("waiting", "Waiting", _in(active, JobState.QUEUED)[::-1]),
        Section("failed", "Failed", [row for row in ended if row.can_be_dismissed]),
        Section("done", "Done", [row for row in ended if not row.can_be_dismissed]),
    ]
    return [section for section in found if section.jobs]


def _in(rows: list[JobRow], *states: JobState) -> list[JobRow]:
    return [row for row in rows if row.state in states]
