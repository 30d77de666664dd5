"""`ollamasite serve` really started: first start, refusals, restarts, every kind of end."""

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes.running_site import (
    RunningSite,
    are_gone,
    free_port,
    serve_command,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.beside]

StartSite = Callable[..., RunningSite]


@dataclass(frozen=True, slots=True)
class EndedSite:
    """What was left of a site that had been started for the first time, and ended by a signal."""

    data_dir: Path
    api_key: str
    output: str
    exit_code: int
    pids: list[int]


@pytest.fixture(scope="module")
def ended_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndedSite]:
    """A site with the starter model; others start on its data, one after the other."""
    site = RunningSite(tmp_path_factory.mktemp("ended") / "data", from_nothing=True)
    try:
        site.wait_until_started()
        pids = list(site.processes())
        exit_code = site.end(signal.SIGTERM)
        yield EndedSite(site.data_dir, site.api_key, site.output, exit_code, pids)
    finally:
        site.clean_up()


@pytest.fixture
def start_site(ended_site: EndedSite) -> Iterator[StartSite]:
    """Starts sites on the data of the one that has ended: a first start takes seconds more."""
    sites: list[RunningSite] = []

    def start(*, port: int | None = None, **settings: str) -> RunningSite:
        options = ["--no-starter-model"]
        site = RunningSite(ended_site.data_dir, *options, port=port, settings=settings)
        sites.append(site)
        site.wait_until_started()
        return site

    yield start
    for site in sites:
        site.clean_up()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A site for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("serve") / "data"
    site = RunningSite(folder, "--no-starter-model", from_nothing=True)
    site.wait_until_started()
    yield site
    site.end()
    site.clean_up()


def status_of(site: RunningSite, path: str, *, key: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def send_question(
    site: RunningSite, key: str, *, num_predict: int, is_streamed: bool = True
) -> http.client.HTTPConnection:
    """Ask the starter model to count, which it does for ever."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    body = {"model": "smollm2:135m", "prompt": "1, 2, 3,", "raw": True, "stream": is_streamed}
    options = {"num_predict": num_predict, "temperature": 0, "stop": []}
    headers = {"Authorization": f"Bearer {key}"}
    connection.request("POST", "/api/generate", json.dumps(body | {"options": options}), headers)
    return connection


@contextlib.contextmanager
def ask(site: RunningSite, key: str, *, num_predict: int) -> Iterator[http.client.HTTPResponse]:
    """Ask the starter model and give the stream after its first line."""
    connection = send_question(site, key, num_predict=num_predict)
    response = connection.getresponse()
    try:
        assert response.status == 200
        response.readline()
        yield response
    finally:
        connection.close()


def run_serve(data_dir: Path, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        serve_command(data_dir, port), capture_output=True, text=True, check=False, timeout=120
    )


def test_first_start_makes_a_site_that_answers_with_the_printed_key(
    shared_site: RunningSite,
) -> None:
    assert status_of(shared_site, "/healthz") == 200
    wait_for(lambda: status_of(shared_site, "/readyz") == 200)
    assert status_of(shared_site, "/api/tags") == 401
    assert status_of(shared_site, "/api/tags", key=shared_site.api_key) == 200


def test_secrets_can_be_read_by_their_owner_only(shared_site: RunningSite) -> None:
    modes = {
        stat.S_IMODE(path.stat().st_mode) for path in (shared_site.data_dir / "secrets").iterdir()
    }
    assert modes == {0o600}


def mode_of(path: Path) -> int:
    """Return the mode of a file, 0 of one that is gone: the site runs."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def test_nothing_in_the_data_directory_is_for_others(shared_site: RunningSite) -> None:
    readable = [
        path
        for path in shared_site.data_dir.rglob("*")
        if mode_of(path) & 0o077 and mode_of(path.parent) & 0o001
    ]

    assert readable == []


def test_site_listens_on_this_machine_only(shared_site: RunningSite) -> None:
    listening = {
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{shared_site.port:04X}")
    }

    assert listening == {f"0100007F:{shared_site.port:04X}"}


def test_second_serve_on_the_same_data_is_refused(shared_site: RunningSite) -> None:
    refused = run_serve(shared_site.data_dir, free_port())

    assert refused.returncode == 1
    assert f"process {shared_site.process.pid}" in refused.stderr
    assert "--data-dir" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refused = run_serve(tmp_path / "data", server.getsockname()[1])

    assert refused.returncode == 1
    assert "--port" in refused.stderr
    assert "redis" not in refused.stdout
    assert not (tmp_path / "data" / "db.sqlite3").exists()


def test_signal_ends_the_site_with_zero_and_leaves_no_process(ended_site: EndedSite) -> None:
    assert ended_site.exit_code == 0
    wait_for(lambda: are_gone(ended_site.pids))

    stopped = [line.split()[-1] for line in ended_site.output.splitlines() if ": stopping " in line]
    assert stopped == ["web", "worker", "inference", "redis"], "the reverse order of their start"


def test_second_start_shows_no_secret_and_keeps_the_key(
    start_site: StartSite, ended_site: EndedSite
) -> None:
    second = start_site()

    assert "API key" not in second.output
    assert status_of(second, "/api/tags", key=ended_site.api_key) == 200
    assert second.end(signal.SIGINT) == 0


def test_killed_web_process_is_started_again(shared_site: RunningSite) -> None:
    pid = shared_site.pid_of("web")

    os.kill(pid, signal.SIGKILL)

    wait_for(lambda: "web was ended by SIGKILL" in shared_site.output)
    wait_for(lambda: status_of(shared_site, "/readyz") == 200)
    assert shared_site.pid_of("web") != pid


def test_answer_that_has_begun_is_finished_before_the_site_stops(
    start_site: StartSite, ended_site: EndedSite
) -> None:
    site = start_site(OLLAMASITE_DRAIN_TIMEOUT="120s")  # four times as long as it is by itself
    with ask(site, ended_site.api_key, num_predict=150) as stream:
        site.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "stopping web" in site.output)
        last = json.loads(stream.read().splitlines()[-1])

    assert last["done"] is True
    assert site.process.wait(60) == 0


def test_answers_that_outlast_the_drain_end_in_an_error(
    start_site: StartSite, ended_site: EndedSite
) -> None:
    site = start_site(OLLAMASITE_DRAIN_TIMEOUT="1s")
    key = ended_site.api_key
    with (
        contextlib.closing(send_question(site, key, num_predict=3000, is_streamed=False)) as whole,
        ask(site, key, num_predict=3000) as stream,
    ):
        site.process.send_signal(signal.SIGTERM)
        last = json.loads(stream.read().splitlines()[-1])
        answer = whole.getresponse()
        body = json.loads(answer.read())

    assert last == {"error": "the service is shutting down, please try again"}
    assert (answer.status, body) == (503, last)
    assert site.process.wait(60) == 0


def test_nothing_outlives_a_killed_serve_and_the_next_one_starts(
    start_site: StartSite, ended_site: EndedSite
) -> None:
    site = start_site()
    with ask(site, ended_site.api_key, num_predict=1) as stream:
        stream.read()
    # The worker may have no child yet: nobody waits for it.
    processes = site.processes()
    assert any("inference.engine.runner" in command for command in processes.values())
    pids = list(processes)

    site.end(signal.SIGKILL)
    again = start_site(port=site.port)

    wait_for(lambda: are_gone(pids))
    wait_for(lambda: status_of(again, "/readyz") == 200)


def test_second_interrupt_kills_everything_at_once(start_site: StartSite) -> None:
    site = start_site()
    pids = list(site.processes())
    # Stopped by SIGSTOP, a child cannot answer SIGTERM: only a kill ends it.
    os.kill(site.pid_of("web"), signal.SIGSTOP)

    site.process.send_signal(signal.SIGINT)
    wait_for(lambda: "stopping web" in site.output)
    site.process.send_signal(signal.SIGINT)

    assert site.process.wait(60) == 0
    wait_for(lambda: are_gone(pids))
