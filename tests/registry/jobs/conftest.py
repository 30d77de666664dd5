"""Jobs that do what a test tells them to, and a worker for them."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connections

from models_app.jobs import JobKind, JobRecord
from models_app.permissions import Principal
from registry.jobs.context import JobContext
from registry.jobs.kinds import Work
from registry.jobs.run import run_next
from registry.jobs.submit import submit
from registry.progress import Progress
from tests.job_worker import running_worker

WAIT_S = 30


class Script:
    """What all jobs of a test do: report, wait until they may end, and end or fail."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.has_begun = threading.Event()
        self.runs: list[str] = []
        self.principals: list[Principal | None] = []
        self.failure: Exception | None = None
        self.kinds = {kind: Work(dict[str, str], self.run) for kind in JobKind}

    def run(self, context: JobContext, arguments: dict[str, str]) -> None:
        """Be the function of a job."""
        self.runs.append(arguments.get("name", ""))
        self.principals.append(context.principal)
        context.report(Progress(status="begun"))
        self.has_begun.set()
        while not self.may_end.wait(0.01):
            context.report(Progress(status="working", digest="sha256:a", total=10, completed=5))
        if self.failure is not None:
            raise self.failure
        context.report(Progress(status="success"))

    def run_one(self) -> bool:
        """Do the next job here, to its end."""
        self.may_end.set()
        return run_next(is_inline=True, kinds=self.kinds)


@pytest.fixture
def script(transactional_db: None, jobs_wait: None) -> Script:
    """Jobs wait for a worker, which does as the script says."""
    return Script()


@pytest.fixture
def worker(script: Script) -> Iterator[None]:
    """Threads that do jobs."""
    with running_worker(script.kinds):
        yield
        script.may_end.set()


def add(principal: Principal | None, name: str, *, share: str = "", **more: bool) -> JobRecord:
    """Submit a job."""
    arguments = {"name": name}
    return submit(principal, JobKind.PULL, arguments, model_name=name, share=share, **more)


def in_threads(count: int, work: object) -> None:
    """Call something in several threads at the same time."""
    barrier = threading.Barrier(count)

    def call() -> None:
        barrier.wait()
        try:
            work()  # type: ignore[operator]
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
