"""What `ollamasite serve` does once its processes run: first admin, starter model, banner.

Knows nothing of processes. Who the first admin is and how a model comes into being is decided in
`models_app` and `registry`.
"""

import asyncio
import json
import logging
from typing import Final

from asgiref.sync import sync_to_async
from django.db import connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models_app import accounts
from models_app.accounts import FirstAdmin
from ollamasite.celery import app

logger = logging.getLogger(__name__)

_STARTER_TASK: Final = "registry.create_starter_model"
_STARTER_TIMEOUT_S: Final = 300.0
_POLL_S: Final = 0.2


async def create_first_admin() -> FirstAdmin | None:
    """Create the administrator of a site without users."""
    return await sync_to_async(_create_first_admin)()


async def create_starter_model() -> str | None:
    """Have the worker create the starter model; None where there is none. Failures are logged."""
    try:
        async with asyncio.timeout(_STARTER_TIMEOUT_S):
            return await _starter_model()
    except TimeoutError:
        logger.error("the starter model was not there within %.0f s", _STARTER_TIMEOUT_S)  # noqa: TRY400 - no trace of use
    except (RedisError, OperationalError, OSError, RuntimeError) as error:
        logger.error("the starter model could not be asked for: %s", error)  # noqa: TRY400 - same
    return None


def banner(url: str, admin: FirstAdmin | None, model: str | None) -> str:
    """Return what the person at the terminal needs; secrets only with the admin just created."""
    rule = "=" * 72
    lines = ["", rule, f"  ollamasite is at {url}"]
    if admin is not None:
        lines += [
            "",
            f"  sign in    {admin.username}",
            f"  password   {admin.password}",
            f"  API key    {admin.api_key}",
            "",
            "  This is shown once. To try it:",
            "",
            _curl(url, admin.api_key, model),
        ]
    return "\n".join([*lines, rule, "", ""])


async def _starter_model() -> str | None:
    result = await sync_to_async(app.send_task)(_STARTER_TASK)
    while not await sync_to_async(result.ready)():  # noqa: ASYNC110 - the worker is another process
        await asyncio.sleep(_POLL_S)
    outcome = result.result
    if isinstance(outcome, Exception):
        logger.error("the starter model could not be created: %s", outcome)
        return None
    return outcome if isinstance(outcome, str) else None


def _create_first_admin() -> FirstAdmin | None:
    try:
        return accounts.create_first_admin()
    finally:
        connection.close()


def _curl(url: str, api_key: str, model: str | None) -> str:
    key = f'-H "Authorization: Bearer {api_key}"'
    if model is None:
        return f"  curl {url}/api/tags {key}"
    message = {"role": "user", "content": "Why is the sky blue?"}
    body = json.dumps({"model": model, "messages": [message], "stream": False})
    return f"  curl {url}/api/chat {key} -d '{body}'"
