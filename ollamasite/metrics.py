"""`/metrics`: the site's figures for Prometheus; OpenMetrics where `Accept` asks for it.

A process tells what it has served itself, and what the whole site shares: nodes, database, disk.
With many processes each is asked for `?part=process` and one for `?part=site`, so that nothing is
counted twice. Who may ask is the gate's business.
"""

import asyncio
import shutil
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from inference import generation
from inference.errors import EngineUnavailable
from inference.messages import PROTOCOL_VERSION
from models_app import figures, ledger_writer
from models_app.figures import StoredFigures
from ollamasite import meters, metric_families
from ollamasite.errors import BadRequest
from ollamasite.redis_server import answers_ping

PARTS: Final = ("process", "site")
_ANSWERS_WITHIN_S: Final = 2.0
_KEPT_S: Final = 5.0


@never_cache
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    """Tell all figures, or those of one part."""
    part = request.GET.get("part", "")
    if part and part not in PARTS:
        raise BadRequest(f"part must be one of: {', '.join(PARTS)}")
    families = [] if part == "process" else await _of_site()
    if part != "site":
        families += _of_process()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_Told(families)), content_type=content_type)


class _Told(Collector):
    """Families that have been collected."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _of_process() -> Iterator[Metric]:
    yield from meters.REGISTRY.collect()
    lag_s = ledger_writer.lag_s()
    if lag_s is not None:
        text = "Since this process has last written what was due to the ledger."
        yield metric_families.value("ledger_lag_seconds", text, lag_s)


async def _of_site() -> list[Metric]:
    engine, database, redis = await asyncio.gather(
        _of_engine(), _of_database(), answers_ping(settings.REDIS_URL)
    )
    disk = shutil.disk_usage(settings.DATA_DIR)
    build = Metric("ollamasite_build", "Which build this is.", "info")
    about = {"version": metadata.version("ollamasite"), "protocol": str(PROTOCOL_VERSION)}
    build.add_sample("ollamasite_build_info", about, 1)
    return [
        build,
        *engine,
        *database,
        metric_families.value("redis_up", "Whether Redis answers.", redis),
        metric_families.value("disk_bytes", "Size of the data directory's disk.", disk.total),
        metric_families.value("disk_free_bytes", "What is free of it.", disk.free),
    ]


async def _of_engine() -> list[Metric]:
    text = "Whether a node answers."
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            nodes = await generation.engine_metrics()
            memories = await generation.engine_memories()
    except (EngineUnavailable, TimeoutError):
        up = metric_families.value("engine_up", text, 0)
        return [up, *metric_families.of_fleet(await generation.nodes_seen())]
    return [
        metric_families.value("engine_up", text, 1),
        *metric_families.of_fleet(await generation.nodes_seen()),
        *metric_families.of_nodes(nodes),
        *metric_families.of_memory(memories),
    ]


async def _of_database() -> list[Metric]:
    text = "Whether the database answers."
    try:
        stored = await sync_to_async(_stored.get)()
    except DatabaseError:
        return [metric_families.value("database_up", text, 0)]
    return [metric_families.value("database_up", text, 1), *metric_families.of_rows(stored)]


class _Stored:
    """What was counted a moment ago: counting is worth queries, and many may ask."""

    def __init__(self) -> None:
        self._figures: StoredFigures | None = None
        self._counted_at_s = 0.0

    def get(self) -> StoredFigures:
        """Return figures that are at most a few seconds old. Raises DatabaseError."""
        now_s = time.monotonic()
        if self._figures is None or now_s - self._counted_at_s > _KEPT_S:
            self._figures = figures.stored_figures()
            self._counted_at_s = now_s
        return self._figures

    def forget(self) -> None:
        """Count anew the next time."""
        self._figures = None


_stored: Final = _Stored()
