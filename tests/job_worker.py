"""A worker in a thread of the test's own process, for jobs that take their time."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.db import connections

from models_app.jobs import JobKind
from registry.jobs.kinds import KINDS, Work
from registry.jobs.run import run_next

_LOOK_EVERY_S = 0.01
_STOP_S = 60


@contextmanager
def running_worker(kinds: Mapping[JobKind, Work] = KINDS, *, threads: int = 2) -> Iterator[None]:
    """Do jobs as they come, so many at a time."""
    is_over = threading.Event()

    def work() -> None:
        try:
            while not is_over.is_set():
                if not run_next(kinds=kinds):
                    is_over.wait(_LOOK_EVERY_S)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work, name="test-worker") for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        is_over.set()
        for worker in workers:
            worker.join(_STOP_S)
