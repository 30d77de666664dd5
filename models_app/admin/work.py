"""Jobs under /admin/: how far they are. `registry.admin` adds what is done with them.

What a job was told, texts of models among it, is shown to nobody.
"""

from typing import Any

from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator

from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.models import Job, JobKind
from ollamasite.sizes import print_size

_PERCENT = 100


class JobAdmin(Panel):
    """Everybody's long work."""

    is_for_operators = True
    paginator = InfinitePaginator
    fields = (
        *("job_id", "kind", "state", "model_name", "owner", "progress", "speed", "trouble"),
        *("attempt", "created_at", "started_at", "ended_at"),
    )
    list_display = ("job_id", "kind", "state", "model_name", "owner", "progress", "created_at")
    list_display_links = ("job_id",)
    list_filter = ("state", "kind")
    search_fields = ("job_id", "model_name", "owner__username")
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all jobs, without what they were told and have told."""
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.select_related("owner").defer("arguments", "events", "owner__password")

    @display(description="progress")
    def progress(self, job: Job) -> str:
        """Return how much of it is done."""
        if not job.total_bytes:
            return "-"
        percent = _PERCENT * job.completed_bytes // job.total_bytes
        return f"{percent} % of {print_size(job.total_bytes)}"

    @display(description="speed")
    def speed(self, job: Job) -> str:
        """Return how fast it is."""
        return f"{print_size(job.bytes_per_s)}/s" if job.bytes_per_s else "-"

    @display(description="what went wrong")
    def trouble(self, job: Job) -> str:
        """Return the error that it ended in; what is wrong with a Modelfile may quote it."""
        told = "code" if job.kind == JobKind.CREATE else "message"
        return str(job.error.get(told, "")) if job.error else "-"


site.register(Job, JobAdmin)
