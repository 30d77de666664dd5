"""A whole site as an operator sees it: one id through all processes' lines, and figures."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.scrape import Scrape
from tests.processes.running_site import RunningSite, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

TOKEN = "a token of some length"
PARTS = ("engine", "database", "redis")
PROMPT = "a prompt that nobody else reads"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A site that logs JSON and lets a scraper in."""
    settings = {"OLLAMASITE_LOG_FORMAT": "json", "OLLAMASITE_METRICS_TOKEN": TOKEN}
    running = RunningSite(tmp_path_factory.mktemp("watched") / "data", settings=settings)
    try:
        running.wait_until_started()
        yield running
        assert running.end() == 0, running.output
    finally:
        running.clean_up()


def ask(site: RunningSite, path: str, token: str, data: Any = None) -> tuple[str, str]:
    """Send a request; return the answer's text and its `x-request-id`."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data)
        connection.request("GET" if data is None else "POST", path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode(), answer.headers["x-request-id"]


def generate(site: RunningSite) -> tuple[str, str]:
    options = {"num_predict": 6, "temperature": 0}
    asked = {"model": "smollm2:135m", "prompt": PROMPT, "stream": False, "options": options}
    return ask(site, "/api/generate", site.api_key, asked)


def json_lines(site: RunningSite) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.output.splitlines() if line.startswith("{")]


def test_one_id_is_in_the_lines_of_web_node_and_runner(site: RunningSite) -> None:
    _, request_id = generate(site)

    def found() -> list[str]:
        return [line for line in site.output.splitlines() if request_id in line]

    wait_for(lambda: len(found()) >= 3)
    lines = [json.loads(line) for line in found()]
    by_process = {line["process"] for line in lines}
    [web] = [line for line in lines if line["process"] == "web"]
    [runner] = [line for line in lines if line["event"].startswith("runner ")]
    [node] = [line for line in lines if line["event"] == "request ended"]
    assert by_process == {"web", "inference"}
    assert (web["event"], web["route"], web["status"]) == ("request", "api/generate", 200)
    assert (web["model"], web["outcome"], web["tokens_out"]) == ("smollm2:135m", "done", 6)
    assert web["engine_ids"] == [node["engine_id"]]
    assert node["engine_id"] in runner["event"]
    assert node["tokens_out"] == 6


def test_every_line_but_the_banners_is_json_and_none_has_a_prompt_or_a_key(
    site: RunningSite,
) -> None:
    generate(site)
    everybody = {"redis", "web", "inference", "worker"}
    # A site is ready before its worker has said a word.
    wait_for(lambda: everybody <= {line["process"] for line in json_lines(site)})
    lines = json_lines(site)

    assert all({"event", "level"} <= line.keys() for line in lines)
    others = [line for line in site.output.splitlines() if line and not line.startswith("{")]
    assert all("|" not in line[:12] for line in others), others
    written = json.dumps(lines)
    assert PROMPT not in written
    assert site.api_key not in written
    assert TOKEN not in written


def test_figures_of_a_real_site_are_those_of_its_answers(site: RunningSite) -> None:
    def scrape() -> Scrape:
        """Look until everything has answered: one that takes two seconds is told as down."""
        found: list[Scrape] = []

        def is_whole() -> bool:
            found.append(Scrape(ask(site, "/metrics", TOKEN)[0]))
            return all(found[-1].sum(f"ollamasite_{part}_up") == 1 for part in PARTS)

        wait_for(is_whole)
        return found[-1]

    before = scrape()
    answers = [json.loads(generate(site)[0]) for _ in range(3)]
    after = scrape()

    def more(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    written = sum(answer["eval_count"] for answer in answers)
    read = sum(answer["prompt_eval_count"] for answer in answers)
    model = "smollm2:135m"
    assert more("ollamasite_requests_total", model=model, outcome="done") == 3
    assert more("ollamasite_tokens_total", model=model, kind="completion") == written
    assert more("ollamasite_tokens_total", model=model, kind="prompt") == read
    assert more("ollamasite_engine_tokens_total", model=model, kind="completion") == written
    assert more("ollamasite_engine_tokens_total", model=model, kind="prompt") == read
    first = "ollamasite_engine_time_to_first_token_seconds_count"
    assert more(first, model=model) == 3
    assert more("ollamasite_engine_inter_token_seconds_count", model=model) == written - 3
    assert after.sum("ollamasite_model_memory_bytes", model=model, device="system") > 100_000_000
    assert 0 <= after.sum("ollamasite_ledger_lag_seconds") < 60
    assert after.sum("ollamasite_store_bytes") > 0
