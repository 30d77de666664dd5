"""Background jobs of the registry: each loads, calls and returns. Knows no file and no format."""

from typing import Any

from celery import shared_task

from models_app import jobs
from registry import starter
from registry.jobs import run, wake


@shared_task(name="registry.create_starter_model")
def create_starter_model() -> str | None:
    """Create the starter model; return its name, or None where the site has models already."""
    return starter.create_starter_model()


@shared_task(name=wake.TASK, bind=True, ignore_result=True, reject_on_worker_lost=True)
def work_once(self: Any) -> None:
    """Do the job whose turn it is, if any, and have the next one done."""
    if run.run_next(is_inline=self.request.is_eager) and jobs.has_queued():
        wake.wake()
