"""What a job's function gets. Knows no kind of job and no row."""

from dataclasses import dataclass

from models_app.permissions import Principal
from registry.progress import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """One run of a job.

    `principal` is who asked for it, as they are now; None: the site itself. `report` is cheap and
    may be called often, from any thread; it raises JobCancelled once somebody has cancelled the
    job, and whoever does long work without progress calls it all the same with the last event.
    """

    job_id: str
    principal: Principal | None
    report: Report
