"""Connections that are cut at random, under load: clients', the engine's and Redis'."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cutting import before_port, before_socket
from tests.faults.patience import REQUEST_S
from tests.faults.site import Faulty, assert_all_has_ended, faulty_site
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

CUTTING_S = 10.0


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with faulty_site(tmp_path / "data") as site:
        yield site


def test_every_request_ends_once_whatever_is_cut(faulty: Faulty) -> None:
    run = faulty.site.data_dir / "run"
    users = faulty.users
    with contextlib.ExitStack() as stack:
        to_web, users.port = stack.enter_context(before_port(faulty.site.port))
        to_engine = stack.enter_context(before_socket(run / "engine.sock"))
        to_redis = stack.enter_context(before_socket(run / "redis.sock"))
        # Its connections are older than what stands before them now.
        os.kill(faulty.site.pid_of("web"), signal.SIGKILL)
        wait_for(lambda: "web was ended by SIGKILL" in faulty.site.output)
        faulty.wait_until_ready()
        with users.asking():
            users.wait_for_answers(of_each=2, timeout_s=2 * REQUEST_S)
            for cutter in (to_web, to_engine, to_redis):
                cutter.is_cutting = True
                time.sleep(CUTTING_S)
                wait_for(lambda cutter=cutter: cutter.cuts > 3, REQUEST_S)  # type: ignore[misc]
                cutter.is_cutting = False
                faulty.wait_until_ready()
                users.wait_for_answers(of_each=2)
    print(users.summary())  # noqa: T201 - shown where the test fails
    assert_all_has_ended(faulty)
