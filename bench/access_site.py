"""A large site and what its gate adds: run as `python -m bench.access_site` by `bench.access`.

The environment names a data directory and a Redis. Makes the rows, measures in this process and
writes a `Measured` as JSON to standard output. Goes through the site's gate and limits themselves,
and its pages through Django's test client; knows no table in Markdown.
"""

import asyncio
import io
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import django
import msgspec
from django.core.management import call_command

from bench import figures
from ollamasite import data_dir

USERS: Final = 1_000
KEYS: Final = 10_000
MODELS: Final = 1_000
ROWS: Final = 1_000_000
TOGETHER: Final = 32
_REQUESTS: Final = 2_000
_PAGES: Final = 9
_ADMIN: Final = "bench-admin"
_API_PAGES: Final = (
    "/api/tags",
    "/v1/models",
    "/api/usage?all=1",
    "/api/usage/requests?all=1",
    "/api/audit",
    "/api/keys",
    "/api/users",
)
_ADMIN_PAGES: Final = (
    "/admin/models_app/languagemodel/",
    "/admin/models_app/tag/",
    "/admin/models_app/ledgerentry/",
    "/admin/models_app/ledgerhour/",
    "/admin/models_app/auditentry/",
    "/admin/models_app/apikey/",
    "/admin/models_app/user/",
)
_SITE_PAGES: Final = (
    "/usage",
    "/usage?all=1",
    "/usage?all=1&period=30d",
    "/usage?all=1&period=year",
    "/usage/requests?all=1",
    "/usage/requests?all=1&outcome=failed",
)
# Rows one after the other, a minute apart; made by the database itself, for there are many.
_ENTRIES: Final = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO models_app_ledgerentry (request_id, began_at, ended_at, user_id, user_name, team_id,
  team_name, key_id, key_name, credential, model_name, model_digest, dialect, kind, priority,
  outcome, error_code, tokens_in, tokens_out, tokens_cached, queue_us, load_us, prefill_us,
  decode_us, compute_us, parameters, node)
SELECT 'bench-' || i, datetime('now', '-' || (i % 525600) || ' minutes'),
  datetime('now', '-' || (i % 525600) || ' minutes'),
  i % {users} + 1, 'user' || (i % {users}), 0, '', i % {keys} + 1, 'key', 'key',
  'model' || (i % {models}), 'd', 'openai', 'chat', 'batch', 'done', '', 100, 50, 10, 5, 0, 9, 99,
  120, '{{}}', '' FROM n
"""
_HOURS: Final = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO models_app_ledgerhour (hour, user_id, user_name, team_id, team_name, key_id, key_name,
  model_name, dialect, requests, failed, tokens_in, tokens_out, tokens_cached, compute_us)
SELECT strftime('%Y-%m-%d %H:00:00', 'now', '-' || (i % 8760) || ' hours'), i % {users} + 1,
  'user' || (i % {users}), 0, '', i % {keys} + 1, 'key', 'model' || (i % {models}), 'openai', 3, 0,
  300, 150, 30, 360 FROM n
"""


class Added(msgspec.Struct):
    """What authentication, policy and reserving add to a request, in seconds.

    `alone`: p50 and p99 one after the other; `together`: with 32 at once, the time that each of
    them costs.
    """

    what: str
    alone: tuple[float, float]
    together: float


class Page(msgspec.Struct):
    """How long a list takes, p50, in seconds, and the bytes of the answer.

    `is_page`: a page of the dashboard, with figures and charts.
    """

    path: str
    seconds: float
    size_bytes: int
    is_page: bool = False


class Measured(msgspec.Struct):
    """All of it."""

    added: list[Added]
    pages: list[Page]


def main() -> None:
    """Make the site, measure, tell."""
    from django.conf import settings

    data_dir.prepare(Path(settings.DATA_DIR))
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    secrets = _make_rows()
    added = asyncio.run(_added(secrets))
    pages = asyncio.run(_pages(secrets[0]))
    sys.stdout.write(msgspec.json.encode(Measured(added, pages)).decode())


# ------------------------------------------------------------------ rows


def _make_rows() -> list[str]:
    """Return the text of every key, an administrator's first."""
    from django.db import connection

    from models_app import audit
    from models_app.key_secrets import hash_secret, new_secret
    from models_app.limit_rules import NewRule, put_rule
    from models_app.models import ApiKey, User

    names = [_ADMIN, *(f"user{number}" for number in range(1, USERS))]
    User.objects.bulk_create(User(username=name, is_superuser=name == _ADMIN) for name in names)
    User.objects.filter(username=_ADMIN).update(is_staff=True)
    owners = list(User.objects.order_by("pk"))
    made = [new_secret() for _ in range(KEYS)]
    ApiKey.objects.bulk_create(
        ApiKey(
            owner=owners[number % USERS],
            name=f"key{number}",
            prefix=prefix,
            secret_hash=hash_secret(secret),
        )
        for number, (prefix, secret) in enumerate(made)
    )
    _make_models(owners)
    numbers = {"rows": ROWS, "users": USERS, "keys": KEYS, "models": MODELS}
    with connection.cursor() as cursor:
        cursor.execute(_ENTRIES.format(**numbers))
        cursor.execute(_HOURS.format(**numbers))
    import_module("models_app.migrations.0008_ledger_sums").fill(connection)
    for number in range(1_000):
        audit.record("bench.act", f"thing{number}", by=None)
    for subject, unit, period in (
        ("site", "requests", "minute"),
        ("each user", "tokens", "day"),
        ("each user", "parallel", ""),
    ):
        put_rule(None, NewRule(subject=subject, unit=unit, period=period, amount=10**9))
    return [secret for _, secret in made]


def _make_models(owners: Sequence[Any]) -> None:
    from bench.workplace import starter_file
    from models_app.models import LanguageModel, Layer, Manifest, Tag, Visibility
    from registry.blobs import blob_store
    from registry.create import CreateModel, create_model

    path = starter_file()
    files = {path.name: blob_store().import_file(path).digest}
    create_model(CreateModel(name="first", principal=None, files=files))
    first = Manifest.objects.get()
    layers = list(first.layers.all())
    for number in range(1, MODELS):
        manifest = Manifest.objects.create(
            digest=f"{number:064x}",
            body=first.body,
            config=first.config,
            size_bytes=first.size_bytes,
        )
        Layer.objects.bulk_create(
            Layer(
                manifest=manifest,
                blob_id=layer.blob_id,
                position=layer.position,
                media_type=layer.media_type,
            )
            for layer in layers
        )
        owner = owners[number % USERS]
        model = LanguageModel.objects.create(
            namespace=owner.username,
            name=f"model{number}",
            owner=owner,
            visibility=Visibility.EVERYONE,
        )
        Tag.objects.create(model=model, name="latest", manifest=manifest)


# ------------------------------------------------------------------ what is added


async def _added(secrets: Sequence[str]) -> list[Added]:
    draw = random.Random(1)  # noqa: S311 - the same draws each time
    same = secrets[1]
    return [
        await _measure("one key", lambda: same),
        await _measure("any of the keys", lambda: draw.choice(secrets)),
    ]


async def _measure(what: str, secret: Callable[[], str]) -> Added:
    """Measure the gate with the limits, less the same call of nothing."""
    from ollamasite.request_threads import lent_threads

    through = _gate()

    async def timed(run: Callable[[str], Awaitable[None]]) -> list[float]:
        took = []
        for _ in range(_REQUESTS):
            text = secret()
            began_s = time.perf_counter()
            await run(text)
            took.append(time.perf_counter() - began_s)
        return took

    async def at_once(run: Callable[[str], Awaitable[None]]) -> float:
        began_s = time.perf_counter()
        for _ in range(_REQUESTS // TOGETHER):
            await asyncio.gather(*(run(secret()) for _ in range(TOGETHER)))
        return (time.perf_counter() - began_s) / (_REQUESTS // TOGETHER * TOGETHER)

    async def admitted(text: str) -> None:
        async with lent_threads():  # as `ollamasite.asgi` has it
            response = await through(_request(text))
        if response.status_code != HTTPStatus.OK:
            raise RuntimeError(f"the gate answers {response.status_code}")

    async def nothing(text: str) -> None:
        _request(text)

    await timed(admitted)  # connections are open now
    base, base_together = await timed(nothing), await at_once(nothing)
    alone, together = await timed(admitted), await at_once(admitted)
    p50 = figures.percentile(alone, 50) - figures.percentile(base, 50)
    p99 = figures.percentile(alone, 99) - figures.percentile(base, 50)
    return Added(what, (p50, p99), together - base_together)


def _gate() -> Callable[[Any], Awaitable[Any]]:
    """Return the gate before a view that does nothing but reserve and settle."""
    from django.http import HttpResponse

    from models_app import limits
    from models_app.gate import GateMiddleware

    async def view(request: Any) -> HttpResponse:
        charge = await limits.reserve(request.principal, tokens=100, model="first")
        charge.used_tokens = 50
        charge.settle()
        return HttpResponse()

    return GateMiddleware(view)


def _request(secret: str) -> Any:
    from django.core.handlers.asgi import ASGIRequest

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/chat",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 11434),
    }
    return ASGIRequest(scope, io.BytesIO())


# ------------------------------------------------------------------ pages


async def _pages(secret: str) -> list[Page]:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    from models_app.models import User

    browser = AsyncClient()
    await browser.aforce_login(await sync_to_async(User.objects.get)(username=_ADMIN))
    headers = {"authorization": f"Bearer {secret}"}
    pages = [await _page(AsyncClient(), path, headers) for path in _API_PAGES]
    return pages + [await _page(browser, path, {}) for path in (*_ADMIN_PAGES, *_SITE_PAGES)]


async def _page(client: Any, path: str, headers: Mapping[str, str]) -> Page:
    took, size_bytes = [], 0
    for _ in range(_PAGES):
        began_s = time.perf_counter()
        response = await client.get(path, headers=headers)
        took.append(time.perf_counter() - began_s)
        size_bytes = len(response.content)
        if response.status_code != HTTPStatus.OK:
            raise RuntimeError(f"{path}: {response.status_code}")
    return Page(path, figures.percentile(took, 50), size_bytes, path in _SITE_PAGES)


if __name__ == "__main__":
    main()
