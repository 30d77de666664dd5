"""The Celery application: background jobs of every app, sent and received as JSON.

Knows no task: each app's `tasks.py` is found by Celery. Settings begin with CELERY_.
"""

from typing import Final

from celery import Celery
from celery.signals import setup_logging

# Redis hands a job out again when its worker has not reported its end within this time, so it
# must be longer than the longest job. A worker that is stopped gives its jobs back at once.
_LONGEST_JOB_S: Final = 12 * 3600

app = Celery("ollamasite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_transport_options={"visibility_timeout": _LONGEST_JOB_S},
    result_backend_transport_options={"visibility_timeout": _LONGEST_JOB_S},
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)
app.autodiscover_tasks()


@setup_logging.connect
def _keep_django_logging(**_: object) -> None:
    """Stop Celery from setting up logging of its own: Django's is in force."""
