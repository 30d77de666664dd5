"""How much there is of what the site keeps, for those who look after it. Knows no HTTP."""

from dataclasses import dataclass, field

from django.db.models import Count, Min, Sum
from django.utils import timezone

from models_app import upstreams
from models_app.models import Blob, Job, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFigures:
    """Rows as they were counted. `jobs` are counted by kind and state."""

    jobs: dict[tuple[str, str], int]
    oldest_job_s: float  # how long the job that waits for the longest time does; 0: none waits
    store_bytes: int
    upstreams: dict[str, bool] = field(default_factory=dict)  # whether an engine elsewhere is up


def stored_figures() -> StoredFigures:
    """Count. Four queries."""
    groups = Job.objects.order_by().values("kind", "state").annotate(count=Count("pk"))
    oldest = Job.objects.filter(state=JobState.QUEUED).aggregate(at=Min("created_at"))["at"]
    waited_s = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return StoredFigures(
        jobs={(group["kind"], group["state"]): group["count"] for group in groups},
        oldest_job_s=max(0.0, waited_s),
        store_bytes=Blob.objects.aggregate(sum=Sum("size_bytes"))["sum"] or 0,
        upstreams=upstreams.standing(),
    )
