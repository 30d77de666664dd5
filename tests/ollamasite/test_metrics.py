"""`/metrics`: who may read it, what it tells, and that nobody can make it grow."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from inference.messages import Device, Generate, NodeReport
from inference.model_labels import MOST_LABELS
from models_app.accounts import create_user
from models_app.keys import KeyRules, create_key
from models_app.limit_kinds import Limit, Period, Unit, period_of
from models_app.models import Job, Upstream, User
from models_app.permissions import Scope, SiteRole
from ollamasite import meters, metrics
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.fakes.scrape import Scrape, scrape
from tests.inference.conftest import api, bearer_for, model, node

__all__ = ["api", "model", "node"]

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a token of some length"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def _counted_now() -> Iterator[None]:
    metrics._stored.forget()
    yield
    metrics._stored.forget()


@pytest.fixture
def operator(transactional_db: None) -> AsgiClient:
    """Looks after the site."""
    user = create_user("olga", "correct horse battery staple")
    user.site_role = SiteRole.OPERATOR
    user.save()
    return AsgiClient(bearer_for(user))


async def test_only_staff_and_named_scrapers_are_told(
    settings: Any, operator: AsgiClient, api: AsgiClient
) -> None:
    stranger = AsgiClient()
    with_token = AsgiClient({"authorization": f"Bearer {TOKEN}"})
    before = [(await each.get("/metrics")).status for each in (stranger, api, with_token, operator)]
    settings.METRICS_TOKEN = TOKEN
    after = [(await each.get("/metrics")).status for each in (stranger, api, with_token, operator)]

    assert (before, after) == ([401, 403, 401, 200], [401, 403, 200, 200])


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer t\xf6ken"},
        {"x-api-key": TOKEN},
    ],
)
async def test_almost_the_token_is_not_the_token(settings: Any, headers: dict[str, str]) -> None:
    settings.METRICS_TOKEN = TOKEN

    assert (await AsgiClient(headers).get("/metrics")).status == 401


async def test_empty_token_lets_nobody_in(settings: Any) -> None:
    assert settings.METRICS_TOKEN == ""

    assert (await AsgiClient({"authorization": "Bearer "}).get("/metrics")).status == 401


async def test_token_opens_nothing_else(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN

    assert (await AsgiClient({"authorization": f"Bearer {TOKEN}"}).get("/api/tags")).status == 401


async def test_network_is_that_of_the_client_and_not_what_it_says_of_itself(settings: Any) -> None:
    settings.METRICS_NETWORKS = ["10.1.0.0/16"]
    spoofed = AsgiClient({"x-forwarded-for": "10.1.2.3"})
    from_outside = (await spoofed.get("/metrics")).status
    settings.METRICS_NETWORKS = ["127.0.0.0/8"]
    from_inside = (await AsgiClient().get("/metrics")).status

    assert (from_outside, from_inside) == (401, 200)


async def test_browser_that_is_nobodys_is_sent_to_sign_in(async_client: AsyncClient) -> None:
    answer = await async_client.get("/metrics", headers={"Accept": "text/html"})

    assert answer.status_code == 302


async def test_open_metrics_come_where_they_are_asked_for(operator: AsgiClient) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await operator.get("/metrics", headers=accept)

    assert answer.content_type.startswith("application/openmetrics-text")
    assert "no-store" in answer.headers["cache-control"]
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"ollamasite_build", "ollamasite_http_requests", "process_open_fds"} <= names


async def test_parts_together_are_the_whole_and_share_nothing(
    node: FakeNode, operator: AsgiClient
) -> None:
    node.meters.of("m:latest").crashes += 1
    whole, process, site = [
        (await scrape(operator, query)).names for query in ("", "?part=process", "?part=site")
    ]

    assert process | site == whole
    assert process & site == set()
    assert "ollamasite_http_requests_total" in process
    assert "ollamasite_engine_crashes_total" in site
    assert (await operator.get("/metrics?part=mine")).status == 400


async def test_figures_come_also_where_no_engine_answers(operator: AsgiClient) -> None:
    told = await scrape(operator)

    assert told.sum("ollamasite_engine_up") == 0
    assert told.sum("ollamasite_redis_up") == 0
    assert told.sum("ollamasite_database_up") == 1
    assert told.sum("ollamasite_disk_free_bytes") > 0


async def test_nodes_and_their_gpus_are_told_also_when_they_are_lost(
    node: FakeNode, operator: AsgiClient
) -> None:
    gpu = Device(name="a GPU", total_bytes=24_000, free_bytes=4_000)
    node.report = NodeReport(node="fake", free_bytes=7_000, devices=(gpu, gpu), is_draining=True)
    there = await scrape(operator)
    await node.stop()
    gone = await scrape(operator)

    assert there.sum("ollamasite_node_answers", node="fake") == 1
    assert there.sum("ollamasite_node_closed", node="fake") == 1
    assert there.sum("ollamasite_node_free_bytes", node="fake") == 7_000
    assert there.sum("ollamasite_device_bytes", node="fake", gpu="a GPU") == 48_000
    assert there.sum("ollamasite_device_free_bytes", device="1") == 4_000
    assert gone.sum("ollamasite_node_answers") == 0
    assert ("ollamasite_node_answers", frozenset({("node", "fake")})) in gone.series


async def test_what_the_engine_counts_is_told(node: FakeNode, operator: AsgiClient) -> None:
    meter = node.meters.of("m:latest")
    meter.first_token.add(0.2)
    meter.first_token.add(100.0)
    meter.stopped("memory is needed")
    told = await scrape(operator)

    name = "ollamasite_engine_time_to_first_token_seconds"
    assert told.sum("ollamasite_engine_up") == 1
    assert told.sum(f"{name}_bucket", le="0.1") == 0
    assert told.sum(f"{name}_bucket", le="0.25", model="m:latest", node="fake") == 1
    assert told.sum(f"{name}_bucket", le="+Inf") == told.sum(f"{name}_count") == 2
    assert told.sum(f"{name}_sum") == pytest.approx(100.2)
    assert told.sum("ollamasite_engine_unloads_total", reason="memory") == 1


async def test_requests_are_counted_by_route_and_status(
    node: FakeNode, model: str, api: AsgiClient, operator: AsgiClient
) -> None:
    before = await scrape(operator)
    await api.post("/api/chat", {"model": model, "messages": HELLO, "stream": False})
    await api.post("/api/chat", {"model": "nothing", "messages": HELLO})
    await AsgiClient().get("/api/tags")
    after = await scrape(operator)

    def more(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    http = "ollamasite_http_requests_total"
    assert more(http, route="api/chat", method="POST", status="2xx") == 1
    assert more(http, route="api/chat", status="4xx") == 1
    assert more("ollamasite_http_request_seconds_count", dialect="native") == 3
    assert more("ollamasite_errors_total", code="unauthenticated", dialect="native") == 1
    assert more("ollamasite_errors_total", code="model_not_found") == 1
    assert more("ollamasite_requests_total", model=model, kind="chat", outcome="done") == 1
    assert more("ollamasite_tokens_total", model=model, kind="prompt") == 10
    assert more("ollamasite_tokens_total", model=model, kind="completion") == 3
    assert after.sum("ollamasite_open_connections", kind="http") == 1  # the scrape itself


async def test_client_that_leaves_is_counted_as_having_left(
    node: FakeNode, model: str, api: AsgiClient, operator: AsgiClient
) -> None:
    labels = {"route": "api/chat", "status": meters.LEFT}
    before = (await scrape(operator)).sum("ollamasite_http_requests_total", **labels)
    node.scripts.append(Script(pieces=(), is_held=True))
    call = api.open("POST", "/api/chat", data={"model": model, "messages": HELLO})
    await node.wait_for(Generate)
    await call.leave()

    told = await scrape(operator)
    assert told.sum("ollamasite_http_requests_total", **labels) == before + 1


async def test_nothing_that_people_send_makes_a_series(
    node: FakeNode, operator: AsgiClient, make_model: MakeModel, alice: User, api: AsgiClient
) -> None:
    secret = await sync_to_async(make_model)("alice/private", alice)
    before = await scrape(operator, "?part=process")
    await api.post("/api/generate", {"model": secret, "prompt": "x", "stream": False})
    for number in range(300):
        stranger = AsgiClient({"authorization": f"Bearer {number}", "user-agent": f"u{number}"})
        await stranger.get(f"/made/up/{number}?q={number}")
        await stranger.request(f"VERB{number}", "/api/chat")
        await api.post("/api/show", {"model": f"made-up-{number}:t{number}"})
    for number in range(5000):
        node.meters.of(f"model-{number}:latest").stopped("it was idle")
        node.meters.of(f"alice/model-{number}:latest").crashes += 1
    told = await scrape(operator)

    text = " ".join(f"{name} {sorted(labels)}" for name, labels in told.series)
    assert "made" not in text
    assert "alice" not in text
    assert "VERB" not in text
    # As many words in what this process counts, and as many in what the node does.
    assert len(values_of(told, "model")) <= 2 * MOST_LABELS + 1
    assert len(told.series) - len(before.series) < 3500  # a hundred for each of 33 models
    after = await scrape(operator, "?part=process")
    assert len(after.series) - len(before.series) < 50


def values_of(told: Scrape, label: str) -> set[str]:
    return {dict(labels)[label] for _, labels in told.series if label in dict(labels)}


async def test_jobs_are_counted_by_kind_and_state(operator: AsgiClient) -> None:
    for number, state in enumerate(["queued", "queued", "failed"]):
        await Job.objects.acreate(
            job_id=str(number), kind="pull", state=state, share_key=str(number), arguments="{}"
        )
    told = await scrape(operator)

    assert told.sum("ollamasite_jobs", kind="pull", state="queued") == 2
    assert told.sum("ollamasite_jobs", state="failed") == 1
    assert 0 <= told.sum("ollamasite_jobs_oldest_seconds") < 60


async def test_engines_elsewhere_are_told_as_they_were_seen_last(operator: AsgiClient) -> None:
    now = timezone.now()
    long_ago = now - timedelta(minutes=5)  # whoever looks has died
    for name, is_up, checked_at in (("a", True, now), ("b", False, now), ("c", False, long_ago)):
        await Upstream.objects.acreate(name=name, kind="vllm", is_up=is_up, checked_at=checked_at)
    await Upstream.objects.acreate(name="off", is_enabled=False, is_up=False, checked_at=now)
    told = await scrape(operator)

    assert {
        dict(labels)["upstream"]: number
        for (name, labels), number in told.series.items()
        if name == "ollamasite_upstream_up"
    } == {"a": 1, "b": 0}


@pytest.mark.parametrize("period", list(Period))
def test_period_of_a_limit_is_known_in_the_stores_terms(period: Period) -> None:
    spec = Limit("user:5", Unit.TOKENS, period, 100).spec(1_700_000_000_000)

    assert period_of(spec) == period


async def test_many_may_scrape_at_once(node: FakeNode, operator: AsgiClient) -> None:
    answers = await asyncio.gather(*(operator.get("/metrics") for _ in range(16)))

    assert {answer.status for answer in answers} == {200}


def test_key_with_a_narrow_scope_is_not_enough(transactional_db: None) -> None:
    user = create_user("otto", "correct horse battery staple")
    user.site_role = SiteRole.OPERATOR
    user.save()
    _, secret = create_key(user, "narrow", KeyRules(scopes=(Scope.READ,)))

    async def ask() -> int:
        return (await AsgiClient({"authorization": f"Bearer {secret}"}).get("/metrics")).status

    assert asyncio.run(ask()) == 403
