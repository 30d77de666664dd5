"""`ollamasite worker`: runs background jobs. Knows no job; Celery finds them in each app."""

import math
import os
import signal
import sys
import warnings
from argparse import ArgumentParser
from typing import Final

from billiard import active_children
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings

from inference import node_ends
from models_app import browser_sessions, ledger_chores
from ollamasite.celery import app
from ollamasite.commands import SiteCommand
from ollamasite.schema import refuse_unmigrated
from registry import upstreams
from registry.jobs import recovery

# How long what is cancelled may take to go.
_CANCELLED_WITHIN_S: Final = 3.0


class Command(SiteCommand):
    """Run jobs until SIGTERM; then wait for running ones, at most OLLAMASITE_DRAIN_TIMEOUT."""

    help = "Run background jobs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how many jobs may run at the same time."""
        parser.add_argument(
            "--concurrency",
            type=int,
            default=settings.WORKER_JOBS,
            help=f"jobs at a time ({settings.WORKER_JOBS})",
        )

    def handle(self, *, concurrency: int, **_: object) -> None:
        """Run the worker in this process and its pool in children."""
        refuse_unmigrated()
        # Celery warns everybody who runs it as root, in a container say. The danger it means is
        # pickle, which this site does not accept.
        warnings.filterwarnings("ignore", message="You're running the worker with superuser")
        worker_shutting_down.connect(_limit_shutdown)
        # Once the children are there: what a thread holds at a fork, they would hold for ever.
        worker_ready.connect(_look_at_jobs)
        worker = app.Worker(
            concurrency=concurrency,
            pool="prefork",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        worker.start()
        sys.exit(worker.exitcode)


def _look_at_jobs(**_: object) -> None:
    """Begin what other workers have left behind, and keep looking."""
    recovery.keep_recovering(
        _take_up_ledger, browser_sessions.remove_over_in_time, upstreams.look_in_time
    )


def _take_up_ledger() -> None:
    """Write down what dead web processes have left."""
    ledger_chores.do(node_ends.find_ends)


def _limit_shutdown(how: str, **_: object) -> None:
    """Turn Celery's endless wait for running jobs into one of OLLAMASITE_DRAIN_TIMEOUT.

    Celery's own time-limited shutdown always sleeps its whole time, also when the last job has
    ended. After SIGQUIT it cancels what still runs and puts it back into the queue.
    """
    if how == "Warm" and not math.isinf(settings.DRAIN_S):  # SIGQUIT is told of as well
        signal.signal(signal.SIGALRM, _cancel_jobs)
        signal.setitimer(signal.ITIMER_REAL, max(settings.DRAIN_S, 0.001))


def _cancel_jobs(*_: object) -> None:
    signal.signal(signal.SIGALRM, _end_children)
    signal.setitimer(signal.ITIMER_REAL, _CANCELLED_WITHIN_S)
    os.kill(os.getpid(), signal.SIGQUIT)


def _end_children(*_: object) -> None:
    """End the processes of the pool; what was theirs goes back into the queue.

    Celery cancels only jobs that a child has said to have begun. One that was on its way to it is
    run to its end, with everybody waiting.
    """
    for pid in filter(None, (child.pid for child in active_children())):
        os.kill(pid, signal.SIGKILL)
