"""Turns of long jobs: nobody keeps the others waiting, and no line is endless."""

import threading
from collections.abc import Iterator

import pytest

from registry.errors import TooManyJobs
from registry.job_turns import JobTurns

ALICE, BOB = 1, 2
WAIT_S = 10


class Jobs:
    """Jobs that note that they have begun and go on when they may."""

    def __init__(self) -> None:
        self.turns = JobTurns(threads=3, running_each=1, waiting_each=2)
        self.may_end = threading.Event()
        self.done: list[str] = []
        self._news = threading.Condition()

    def submit(self, user_id: int, name: str, *, is_long: bool = False) -> None:
        def job() -> None:
            if is_long:
                self.may_end.wait(WAIT_S)
            with self._news:
                self.done.append(name)
                self._news.notify_all()

        self.turns.submit(user_id, job)

    def wait_for(self, count: int) -> list[str]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.done) >= count, WAIT_S)
            return self.done


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.may_end.set()


def test_job_of_another_user_does_not_wait(jobs: Jobs) -> None:
    for number in range(3):
        jobs.submit(ALICE, f"alice {number}", is_long=True)
    jobs.submit(BOB, "bob")
    assert jobs.wait_for(1) == ["bob"]


def test_jobs_of_a_user_run_in_their_order(jobs: Jobs) -> None:
    names = ["first", "second", "third"]
    for name in names:
        jobs.submit(ALICE, name, is_long=True)
    jobs.may_end.set()
    assert jobs.wait_for(3) == names


def test_line_of_a_user_has_an_end(jobs: Jobs) -> None:
    for number in range(3):
        jobs.submit(ALICE, str(number), is_long=True)
    with pytest.raises(TooManyJobs):
        jobs.submit(ALICE, "one too many")


def test_user_may_come_again_when_all_is_done(jobs: Jobs) -> None:
    for number in range(3):
        jobs.submit(ALICE, str(number))
        jobs.wait_for(number + 1)
    for number in range(3, 6):
        jobs.submit(ALICE, str(number))
        jobs.wait_for(number + 1)
    assert len(jobs.done) == 6
