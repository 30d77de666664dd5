"""The ledger's sums against the engine's own, with a real node and a tiny model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db.models import Sum

from inference import generation
from inference.engine.config import EngineConfig
from inference.engine.server import serve
from inference.fleet import engine_fleet
from models_app import ledger_writer
from models_app.models import LedgerEntry, LedgerHour, Outcome
from tests.conftest import MakeModel
from tests.fakes.http import AsgiClient
from tests.fakes.scrape import Scrape, scrape

pytestmark = pytest.mark.slow

ASKED: dict[str, Any] = {"model": "tiny", "prompt": "hello world", "stream": False}
MANY: dict[str, Any] = {"num_predict": 100_000, "temperature": 0, "num_ctx": 512}


@pytest.fixture
def tiny(transactional_db: None, make_model: MakeModel) -> str:
    """A model that makes no sense, quickly."""
    return make_model("tiny")


@pytest.fixture
async def real_node(settings: Any, tmp_path: Path, tiny: str) -> AsyncIterator[None]:
    """A real engine where the site looks for its engine."""
    config = EngineConfig(
        socket_path=tmp_path / "e.sock",
        blobs_dir=settings.BLOBS_DIR,
        ends_dir=tmp_path / "engine",
        drain_s=5.0,
        threads=1,
    )
    settings.ENGINE_SOCKET = config.socket_path
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(config, stopping))
    while not config.socket_path.exists():
        await asyncio.sleep(0.01)
    yield
    engine_fleet(config.socket_path).close()
    stopping.set()
    await serving


async def leave_in_the_middle(api: AsgiClient) -> None:
    """Ask for a long answer and go away when it has begun."""
    call = api.open("POST", "/api/generate", data={**ASKED, "stream": True, "options": MANY})
    async with asyncio.timeout(60):
        while not call.chunks:
            await asyncio.sleep(0.005)
    await call.leave()


async def all_ended(count: int) -> None:
    """Wait until the engine has ended so many requests, those that were left too."""
    async with asyncio.timeout(60):
        while (await generation.engine_counters()).ended < count:
            await asyncio.sleep(0.02)


async def test_sums_are_the_engines_own_to_the_token(
    settings: Any, real_node: None, api: AsgiClient
) -> None:
    settings.METRICS_NETWORKS = ["127.0.0.1/32"]
    before = await scrape(api)
    await api.post("/api/generate", {**ASKED, "options": {"num_predict": 5}})
    await api.post("/api/generate", {**ASKED, "options": {"num_predict": 5}})  # now from the cache
    await api.post("/v1/completions", {**ASKED, "n": 3, "max_tokens": 4})
    await api.post("/v1/completions", {**ASKED, "prompt": ["a b", "c d e"], "max_tokens": 3})
    await api.post("/api/embed", {"model": "tiny", "input": ["one", "two words"]})
    await api.post("/api/generate", {"model": "tiny"})
    await leave_in_the_middle(api)
    await all_ended(8)
    await sync_to_async(ledger_writer.write_pending)()

    engine = await generation.engine_counters()
    names = ("tokens_in", "tokens_out", "tokens_cached", "compute_us")
    sums = {name: Sum(name) for name in names}
    for rows in (LedgerEntry, LedgerHour):
        found = await rows.objects.aaggregate(**sums)
        assert found["tokens_in"] == engine.prompt_tokens > 0
        assert found["tokens_out"] == engine.completion_tokens > 0
        assert found["tokens_cached"] == engine.cached_tokens > 0
        assert found["compute_us"] == pytest.approx(engine.compute_ns / 1000, abs=8)
    assert await LedgerEntry.objects.acount() == 7
    left = await LedgerEntry.objects.aget(outcome=Outcome.LEFT)
    assert 0 < left.tokens_out < MANY["num_predict"]
    assert engine.failed == 1
    assert engine.compute_ns > 0
    await check_figures(before, await scrape(api))


async def check_figures(before: Scrape, after: Scrape) -> None:
    """See that `/metrics` tells what the ledger and the engine do."""

    def more(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    engine = await generation.engine_counters()
    names = {"tokens_in": "prompt", "tokens_out": "completion", "tokens_cached": "cached"}
    sums = await LedgerEntry.objects.aaggregate(**{name: Sum(name) for name in names})
    for name, kind in names.items():
        assert more("ollamasite_tokens_total", kind=kind) == sums[name] > 0
        assert after.sum("ollamasite_engine_tokens_total", kind=kind) == sums[name]
    for outcome in Outcome:
        rows = await LedgerEntry.objects.filter(outcome=outcome).acount()
        assert more("ollamasite_requests_total", outcome=outcome.value) == rows
    requests = "ollamasite_engine_requests_total"
    assert after.sum(requests, outcome="cancelled") == engine.failed
    assert after.sum(requests, outcome="done") == engine.ended - engine.failed
    # Behind the end of an answer that was left a token may have been computed that nobody heard of.
    computed = after.sum("ollamasite_engine_computed_tokens_total", kind="completion")
    assert 0 <= computed - engine.completion_tokens <= 1
    answers = after.sum("ollamasite_engine_time_to_first_token_seconds_count")
    gaps = after.sum("ollamasite_engine_inter_token_seconds_count")
    assert 0 < answers < gaps < computed
    assert after.sum("ollamasite_engine_load_seconds_count", model="tiny:latest") == 1
    assert after.sum("ollamasite_engine_step_seconds_sum") == pytest.approx(
        engine.compute_ns / 1e9, rel=0.01
    )
