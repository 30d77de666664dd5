"""The ledger of a really started site of which parts are killed in the middle of a request."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes.running_site import RunningSite, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(400)]

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    site = RunningSite(tmp_path_factory.mktemp("ledger") / "data")
    try:
        site.wait_until_started()
        yield site
        assert site.end() == 0
        # Nothing was left for a recovery.
        assert list((site.data_dir / "ledger").iterdir()) == []
    finally:
        site.clean_up()


def get(site: RunningSite, path: str) -> Any:
    """Return the body of an answer; None where none came."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {site.api_key}"})
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def asked(site: RunningSite, *, num_predict: int) -> Iterator[http.client.HTTPResponse]:
    """Have the model count, which it does for ever, and give the stream after its third line."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    options = {"num_predict": num_predict, "temperature": 0, "stop": []}
    body = {"model": MODEL, "prompt": "1, 2, 3,", "raw": True, "options": options}
    headers = {"Authorization": f"Bearer {site.api_key}"}
    connection.request("POST", "/api/generate", json.dumps(body), headers)
    response = connection.getresponse()
    try:
        for _ in range(3):
            response.readline()
        yield response
    finally:
        connection.close()


def rows(site: RunningSite) -> list[Any]:
    """Return the ledger's rows, the newest first; none where the site does not answer."""
    body = get(site, "/api/usage/requests?all=1")
    return body["requests"] if body else []


def newest_after(site: RunningSite, count: int) -> Any:
    """Wait until there are more than `count` rows; return the newest. There is just one more."""
    wait_for(lambda: len(rows(site)) > count, timeout_s=120)
    found = rows(site)
    assert len(found) == count + 1
    return found[0]


def kill(site: RunningSite, name: str) -> None:
    pid = site.pid_of(name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in site.processes())


def test_every_request_has_one_row_whatever_is_killed(site: RunningSite) -> None:
    """One test for all of it: what takes the time is starting processes and loading the model."""
    redis = next(pid for pid, command in site.processes().items() if "redis-server" in command)
    with asked(site, num_predict=20) as stream:
        os.kill(redis, signal.SIGKILL)
        last = json.loads(stream.read().splitlines()[-1])
    done = newest_after(site, 0)
    assert (done["outcome"], done["tokens_out"]) == ("done", last["eval_count"])

    with asked(site, num_predict=2000):
        kill(site, "web")
    lost = newest_after(site, 1)
    assert (lost["outcome"], lost["user"], lost["model"]) == ("lost", "admin", MODEL)
    assert lost["tokens_in"] == done["tokens_in"]
    assert 3 <= lost["tokens_out"] < 2000
    assert lost["compute_us"] > 0  # which only the node knows

    with asked(site, num_predict=2000) as stream:
        kill(site, "inference")
        stream.read()
    failed = newest_after(site, 2)
    assert (failed["outcome"], failed["error_code"]) == ("failed", "connection_lost")
    assert failed["tokens_out"] >= 3

    found = rows(site)
    total = get(site, "/api/usage?all=1")["total"]
    assert total["requests"] == len(found) == 3
    for name in ("tokens_in", "tokens_out", "tokens_cached", "compute_us"):
        assert total[name] == sum(row[name] for row in found)
