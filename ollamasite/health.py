"""`/healthz`: this process answers. `/readyz`: a request would succeed now.

Knows no credential (both are open to all) and tells strangers no reasons, only which part is
not well; the reasons stand in the log.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference import generation
from ollamasite import leaving
from ollamasite.errors import ServiceError
from ollamasite.redis_server import answers_ping

logger = logging.getLogger(__name__)

_CHECK_TIMEOUT_S: Final = 2.0


@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """Answer `ok`; nothing is looked at."""
    return HttpResponse("ok", content_type="text/plain; charset=utf-8")


@never_cache
@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database, Redis and engine work and the first start is over, else 503.

    Also 503 as soon as this process has been told to go: other processes should be asked.
    """
    if leaving.is_leaving():
        return JsonResponse({"status": "leaving", "checks": {}}, status=503)
    names = ("database", "redis", "engine")
    results = await asyncio.gather(
        _is_well("database", _database_answers()),
        _is_well("redis", answers_ping(settings.REDIS_URL)),
        _is_well("engine", generation.engine_is_ready()),
    )
    checks = {
        name: "ok" if is_ok else "unavailable" for name, is_ok in zip(names, results, strict=True)
    }
    checks["start"] = "starting" if settings.STARTING_MARK.exists() else "ok"
    if checks["start"] == "starting":
        status = "starting"
    else:
        status = "ok" if all(results) else "unavailable"
    return JsonResponse({"status": status, "checks": checks}, status=200 if status == "ok" else 503)


async def _is_well(name: str, check: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(check, _CHECK_TIMEOUT_S)
    except (DatabaseError, ServiceError, OSError, TimeoutError) as error:
        logger.warning("not ready: %s: %r", name, error)
        return False


async def _database_answers() -> bool:
    # A table of ours, so that a database without its migrations is not called ready.
    await get_user_model().objects.aexists()
    return True
