"""PostgreSQL is stopped for five seconds, under the load of sixteen users."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, postgresql
from tests.faults.patience import REQUEST_S
from tests.faults.site import Faulty, assert_all_has_ended, faulty_site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

STOPPED_S = 5.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with postgresql() as cluster:
        yield cluster


@pytest.fixture
def faulty(tmp_path: Path, cluster: Cluster) -> Iterator[Faulty]:
    with faulty_site(tmp_path / "data", {"OLLAMASITE_DATABASE_URL": cluster.url}) as site:
        yield site


def test_requests_end_and_go_on_while_postgresql_is_away(faulty: Faulty, cluster: Cluster) -> None:
    with faulty.users.asking():
        faulty.users.wait_for_answers(of_each=2, timeout_s=2 * REQUEST_S)
        pids = set(faulty.site.processes())
        cluster.stop()
        time.sleep(STOPPED_S)
        cluster.start()
        faulty.wait_until_ready()
        faulty.users.wait_for_answers(of_each=2)
        assert {faulty.site.pid_of(name) for name in ("web", "worker", "inference")} <= pids
    print(faulty.users.summary())  # noqa: T201 - shown where the test fails
    assert_all_has_ended(faulty)
    # Each request leaves a line at most, and nobody a traceback.
    assert "Traceback" not in faulty.site.output
    assert "without completing handshake" not in faulty.site.output
