"""Two really running sites on one machine: models go from one to the other and answer there.

North has the starter model and is never without it; South begins every test empty. Between them,
and between both and a docker-registry, stand proxies that a test can slow down.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.databases import database_settings
from tests.fakes.tcp_front import TcpFront, tcp_front
from tests.processes.docker_registry import running_registry
from tests.processes.running_site import RunningSite, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(600)]

MODEL = "smollm2:135m"
MB = 1_000_000
SLOW_BYTES_PER_S = 16 * MB
# The model has 98 MB. What is on the way when a connection breaks goes again; from the first byte
# on again, it would be 150.
MIDDLE_BYTES = 55 * MB
ONCE_BYTES = 130 * MB
# Long enough for the worker's recovery to notice that a job's heart has stopped.
PATIENCE_S = 180.0


@dataclass
class Sites:
    """The two, and the ways to them."""

    north: RunningSite
    south: RunningSite
    to_north: TcpFront
    to_south: TcpFront
    to_docker: TcpFront

    def forget(self) -> None:
        """Delete every model of South, and every other name of North's."""
        for site in (self.north, self.south):
            for name in names(site) - ({MODEL} if site is self.north else set()):
                call(site, "DELETE", "/api/delete", {"model": name})
        for front in (self.to_north, self.to_south, self.to_docker):
            free(front)
            front.passed_bytes = 0


@pytest.fixture(scope="module")
def running_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("two-sites")
    with tcp_front() as to_north, tcp_front() as to_south, tcp_front() as to_docker:
        hosts = ",".join(f"http://{front.host}" for front in (to_north, to_south, to_docker))
        settings = {"OLLAMASITE_ALLOWED_REGISTRIES": hosts}
        south = RunningSite(folder / "south", "--no-starter-model", settings=settings)
        north = RunningSite(folder / "north", settings=settings)
        to_north.behind, to_south.behind = (site.url[len("http://") :] for site in (north, south))
        try:
            north.wait_until_started()
            south.wait_until_started()
            wait_for(lambda: MODEL in names(north), PATIENCE_S)
            yield Sites(north, south, to_north, to_south, to_docker)
            assert (north.end(), south.end()) == (0, 0)
        finally:
            north.clean_up()
            south.clean_up()


@pytest.fixture
def sites(running_sites: Sites) -> Iterator[Sites]:
    running_sites.forget()
    yield running_sites
    running_sites.forget()


def call(
    site: RunningSite, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Send a request with the site's key and return status and text."""
    connection = connect(site)
    try:
        connection.request(method, path, json.dumps(body or {}), key_of(site))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def connect(site: RunningSite) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)


def key_of(site: RunningSite) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.api_key}"}


def names(site: RunningSite) -> set[str]:
    return {model["name"] for model in models(site)}


def models(site: RunningSite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(site, "GET", "/api/tags")[1])["models"]
    return found


def digest_of(site: RunningSite, name: str) -> str:
    return next(str(model["digest"]) for model in models(site) if model["name"] == name)


def copy(site: RunningSite, source: str, destination: str) -> None:
    wanted = {"source": source, "destination": destination}
    assert call(site, "POST", "/api/copy", wanted) == (200, "")


def transfer(site: RunningSite, what: str, name: str, **options: Any) -> list[dict[str, Any]]:
    """Pull or push and return the events."""
    status, text = call(site, "POST", f"/api/{what}", {"model": name, **options})
    assert status == 200, text
    return [json.loads(line) for line in text.splitlines()]


def answer_of(site: RunningSite, model: str) -> str:
    question = {"role": "user", "content": "What is 2+2?"}
    options = {"temperature": 0, "seed": 1}
    body = {"model": model, "messages": [question], "stream": False, "options": options}
    status, text = call(site, "POST", "/api/chat", body)
    assert status == 200, text
    return str(json.loads(text)["message"]["content"])


def login(site: RunningSite) -> dict[str, str]:
    """What another site sends to be this site's administrator."""
    return {"username": "admin", "password": site.api_key}


def command(site: RunningSite, *words: str) -> str:
    """Run a command of the site and return what it prints."""
    environ = os.environ | database_settings(site.data_dir)
    environ["OLLAMASITE_DATA_DIR"] = str(site.data_dir)
    line = [sys.executable, "-m", "ollamasite", *words]
    return subprocess.check_output(line, env=environ, text=True)


# ------------------------------------------------------------------ from one to the other


def test_model_pushed_by_the_sites_own_key_is_chatted_with_on_the_other_site(sites: Sites) -> None:
    key = command(sites.north, "site-key").strip()
    command(sites.south, "add-client-key", "admin", key)
    name = f"{sites.to_south.host}/library/{MODEL}"
    copy(sites.north, MODEL, name)

    assert transfer(sites.north, "push", name)[-1] == {"status": "success"}

    assert digest_of(sites.south, MODEL) == digest_of(sites.north, MODEL)
    assert answer_of(sites.south, MODEL) == "The answer is: 4"


def test_model_pulled_with_a_password_answers_under_its_whole_name(sites: Sites) -> None:
    name = f"{sites.to_north.host}/library/{MODEL}"

    told = transfer(sites.south, "pull", name, **login(sites.north))

    assert told[-1] == {"status": "success"}
    assert digest_of(sites.south, name) == digest_of(sites.north, MODEL)
    assert answer_of(sites.south, name) == "The answer is: 4"


def test_stranger_pulls_nothing(sites: Sites) -> None:
    name = f"{sites.to_north.host}/library/{MODEL}"

    told = transfer(sites.south, "pull", name, username="admin", password="wrong")

    assert "error" in told[-1]
    assert not names(sites.south)


def test_docker_registry_carries_a_model_from_one_to_the_other(
    sites: Sites, tmp_path: Path
) -> None:
    name = f"{sites.to_docker.host}/lab/smollm2:v1"
    copy(sites.north, MODEL, name)
    with running_registry(tmp_path / "registry", {}) as registry:
        sites.to_docker.behind = registry.host
        pushed = transfer(sites.north, "push", name)
        pulled = transfer(sites.south, "pull", name)

    assert pushed[-1] == pulled[-1] == {"status": "success"}
    assert digest_of(sites.south, name) == digest_of(sites.north, MODEL)


# ------------------------------------------------------------------ in the middle of it


def begin(site: RunningSite, kind: str, name: str, other: RunningSite) -> str:
    """Begin a job that nobody watches, and return its id."""
    status, text = call(site, "POST", "/api/jobs", {"kind": kind, "model": name, **login(other)})
    assert status == 201, text
    return str(json.loads(text)["id"])


def job(site: RunningSite, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(site, "GET", f"/api/jobs/{job_id}")[1])
    return found


def wait_for_end(site: RunningSite, job_id: str) -> dict[str, Any]:
    wait_for(lambda: job(site, job_id)["state"] not in ("queued", "running"), PATIENCE_S)
    return job(site, job_id)


def kill(site: RunningSite, name: str) -> None:
    """Kill every process of a service at once, and wait until it is there again."""
    pids = {pid for pid, line in site.processes().items() if line.endswith(f" {name}")}
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: any(
            line.endswith(f" {name}") and pid not in pids for pid, line in site.processes().items()
        )
    )


def slow(front: TcpFront) -> None:
    """Let the model through as far as its middle, slowly, and no further until it is free."""
    front.bytes_per_s = SLOW_BYTES_PER_S
    front.holds_at = MIDDLE_BYTES


def free(front: TcpFront) -> None:
    front.bytes_per_s = front.holds_at = None


def in_the_middle(front: TcpFront) -> None:
    """Wait until a good part of the model has gone by."""
    wait_for(lambda: front.passed_bytes >= MIDDLE_BYTES, PATIENCE_S)


def test_killed_worker_takes_a_pull_up_where_it_was(sites: Sites) -> None:
    slow(sites.to_north)
    name = f"{sites.to_north.host}/library/{MODEL}"
    job_id = begin(sites.south, "pull", name, sites.north)
    in_the_middle(sites.to_north)

    kill(sites.south, "worker")

    free(sites.to_north)
    ended = wait_for_end(sites.south, job_id)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    assert digest_of(sites.south, name) == digest_of(sites.north, MODEL)
    assert sites.to_north.passed_bytes < 150 * MB, "of a model of 98 MB"


def test_killed_worker_takes_a_push_up_where_it_was(sites: Sites) -> None:
    slow(sites.to_south)
    name = f"{sites.to_south.host}/library/{MODEL}"
    copy(sites.north, MODEL, name)
    job_id = begin(sites.north, "push", name, sites.south)
    in_the_middle(sites.to_south)

    kill(sites.north, "worker")

    free(sites.to_south)
    ended = wait_for_end(sites.north, job_id)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    assert digest_of(sites.south, MODEL) == digest_of(sites.north, MODEL)
    assert sites.to_south.passed_bytes < ONCE_BYTES, "of a model of 98 MB"


def test_pull_outlives_the_other_sides_web(sites: Sites) -> None:
    slow(sites.to_north)
    name = f"{sites.to_north.host}/library/{MODEL}"
    job_id = begin(sites.south, "pull", name, sites.north)
    in_the_middle(sites.to_north)

    kill(sites.north, "web")

    free(sites.to_north)
    assert wait_for_end(sites.south, job_id)["state"] == "succeeded"
    assert sites.to_north.passed_bytes < ONCE_BYTES, "nothing has come twice"


def test_push_outlives_the_other_sides_web(sites: Sites) -> None:
    slow(sites.to_south)
    name = f"{sites.to_south.host}/library/{MODEL}"
    copy(sites.north, MODEL, name)
    job_id = begin(sites.north, "push", name, sites.south)
    in_the_middle(sites.to_south)

    kill(sites.south, "web")

    free(sites.to_south)
    assert wait_for_end(sites.north, job_id)["state"] == "succeeded"
    assert digest_of(sites.south, MODEL) == digest_of(sites.north, MODEL)
    assert sites.to_south.passed_bytes < ONCE_BYTES, "nothing has gone twice"


def test_pull_goes_on_for_the_second_when_the_first_leaves(sites: Sites) -> None:
    slow(sites.to_north)
    body = {"model": f"{sites.to_north.host}/library/{MODEL}", **login(sites.north)}
    first, second = connect(sites.south), connect(sites.south)
    for caller in (first, second):
        caller.request("POST", "/api/pull", json.dumps(body), key_of(sites.south))
    leaving = first.getresponse()
    leaving.readline()
    in_the_middle(sites.to_north)

    leaving.close()
    first.close()

    free(sites.to_north)
    assert second.getresponse().read().splitlines()[-1] == b'{"status":"success"}'
    second.close()
    assert sites.to_north.passed_bytes < ONCE_BYTES, "it was one pull"
