"""A web process whose Redis goes and comes back: what is answered, and what the log says of it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from redis import Redis
from redis.exceptions import RedisError
from websockets.sync.client import ClientConnection, connect

from models_app.limits import GRACE_REQUESTS
from ollamasite import redis_server
from tests.load.site import MODEL, LoadSite, Web
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

REFUSED = "limits cannot be checked at the moment"


def test_outage_of_redis_is_one_warning_and_ends_by_itself(tmp_path: Path) -> None:
    site = LoadSite(tmp_path, OLLAMASITE_REQUESTS_PER_MINUTE="10000")
    with ExitStack() as stack:
        with _redis(tmp_path):
            web = stack.enter_context(site.web())
            socket = stack.enter_context(_jobs_socket(site, web))
            assert json.loads(socket.recv(timeout=60))["type"] == "jobs"
            assert REFUSED not in _ask(site, web)
        told = [_ask(site, web) for _ in range(GRACE_REQUESTS + 4)]
        assert [REFUSED in text for text in told] == GRACE_REQUESTS * [False] + 4 * [True]
        assert (
            httpx2.get(f"{web.url}/api/tags", headers={"x-api-key": "x"}, timeout=60).status_code
            == 401
        )
        wait_for(lambda: "Redis does not answer" in web.log, 60)
        with _redis(tmp_path):
            wait_for(lambda: REFUSED not in _ask(site, web), 60)
            wait_for(lambda: "Redis answers again" in web.log, 60)
        with _jobs_socket(site, web) as another:
            assert json.loads(another.recv(timeout=60))["type"] == "jobs"

    assert web.log.count("Redis answers again") == 1
    assert "Traceback" not in web.log


def _ask(site: LoadSite, web: Web) -> str:
    """Ask for an answer, which no node gives: what is looked at is who refuses it."""
    headers = {"Authorization": f"Bearer {site.key}"}
    asked = {"model": MODEL, "prompt": "Hello", "stream": False}
    answer = httpx2.post(f"{web.url}/api/generate", headers=headers, json=asked, timeout=60)
    assert answer.status_code == 503
    return answer.text


def _jobs_socket(site: LoadSite, web: Web) -> ClientConnection:
    url = web.url.replace("http", "ws") + "/ws/jobs"
    return connect(url, additional_headers={"x-api-key": site.key}, open_timeout=60)


@contextmanager
def _redis(folder: Path) -> Iterator[None]:
    """Run the site's Redis; killed in the end."""
    address = folder / "run" / "redis.sock"
    executable = redis_server.find_executable()
    process = subprocess.Popen(
        redis_server.command_line(executable, address, folder / "redis"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: _answers(address), 60)
        yield
    finally:
        process.kill()
        process.wait()


def _answers(address: Path) -> bool:
    try:
        with Redis(unix_socket_path=str(address)) as client:
            return bool(client.ping())
    except RedisError:
        return False
