"""A soak in small: many requests of all kinds, and web and node hold what they held before.

`make soak` is the long one, with a real model; here runners are scripted, and what is counted are
objects, tasks, threads and open files, which say after a thousand requests what memory says only
after hours.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.load.site import MODEL, Held, LoadSite, Watched, Web

# Runs beside other tests: counts are of its own processes, and nothing is timed.
pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(900)]

CLIENTS = 12
# Of each client in a round; the first round fills caches and pools.
REQUESTS = 30
# A leak of one object a request would be 720 in two rounds.
MOST_OBJECTS = 300
LET_GO_S = 60
_SPARE_FILES = 6
_SPARE_THREADS = 6
_SPARE_TASKS = 4
# So that all of them have been used in the first round.
_FEW = {"OLLAMASITE_WEB_THREADS": "3", "OLLAMASITE_WRONG_KEYS_PER_MINUTE": "0"}
Counts = dict[str, Held]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadSite, Watched, Web]]:
    site = LoadSite(tmp_path_factory.mktemp("g"), OLLAMASITE_NUM_PARALLEL="8", **_FEW)
    with site.node(rate=200) as node, site.web() as web:
        yield site, node, web


def test_nothing_is_left_of_requests(site: tuple[LoadSite, Watched, Web]) -> None:
    place, node, web = site
    statuses = Counter[str]()
    asyncio.run(_round(place, web, statuses))
    before = _held(node, web)
    for _ in range(2):
        asyncio.run(_round(place, web, statuses))
    # What ends behind an answer may take its time; what has leaked stays.
    until_s = time.monotonic() + LET_GO_S
    while _grown(before, after := _held(node, web)) and time.monotonic() < until_s:
        time.sleep(2)

    for name, then in before.items():
        now = after[name]
        kinds = Counter(now.kinds)
        kinds.subtract(then.kinds)
        print(f"{name}: {then.objects} → {now.objects} objects, {kinds.most_common(8)}")  # noqa: T201
    assert _grown(before, after) == []
    assert set(statuses) == {"200", "400", "401", "404", "left"}


def _grown(before: Counts, after: Counts) -> list[str]:
    """Return what is more than there was before, and more than what comes and goes."""
    allowed = {
        "objects": MOST_OBJECTS,
        "tasks": _SPARE_TASKS,
        "threads": _SPARE_THREADS,
        "files": _SPARE_FILES,
    }
    return [
        f"{process}: {getattr(then, what)} → {getattr(after[process], what)} {what}"
        for process, then in before.items()
        for what, spare in allowed.items()
        if getattr(after[process], what) > getattr(then, what) + spare
    ]


def _held(*watched: Watched) -> Counts:
    for one in watched:
        one.held()  # the first time it is asked makes things of its own
    return {one.name: one.held() for one in watched}


async def _round(site: LoadSite, web: Web, statuses: Counter[str]) -> None:
    """Have all clients ask, and wait until what they left behind is over."""
    async with asyncio.timeout(300):
        await asyncio.gather(*(_client(site, web, number, statuses) for number in range(CLIENTS)))
    await asyncio.sleep(2.0)


async def _client(site: LoadSite, web: Web, number: int, statuses: Counter[str]) -> None:
    for turn in range(number, number + REQUESTS):
        match turn % 8:
            case 0 | 1 | 2:
                status = await _ask(web, site.key, "/v1/chat/completions", _chat(stream=True))
            case 3:
                status = await _ask(web, site.key, "/api/chat", _chat(stream=False))
            case 4:
                body = _chat(stream=True, tokens=4000)
                status = await _ask(web, site.key, "/v1/chat/completions", body, leaves=True)
            case 5:
                status = await _ask(web, site.key, "/api/chat", {"model": MODEL, "messages": 7})
            case 6:
                status = await _ask(web, "osk-wrong", "/api/chat", _chat(stream=True))
            case _:
                body = {**_chat(stream=True), "model": "nobody/has-it"}
                status = await _ask(web, site.key, "/v1/messages", body)
        statuses[status] += 1


def _chat(*, stream: bool, tokens: int = 12) -> dict[str, object]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count."}],
        "max_tokens": tokens,
        "options": {"num_predict": tokens},
        "stream": stream,
    }


async def _ask(
    web: Web, key: str, path: str, body: dict[str, object], *, leaves: bool = False
) -> str:
    """Ask, and read to the end or leave in the middle of the answer; return the status."""
    text = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    try:
        writer.write(head.encode() + text)
        status = (await reader.readline()).split()[1].decode()
        if leaves:
            await reader.readuntil(b"3:")  # the fourth token
            return "left"
        await reader.read()
        return status
    finally:
        writer.close()
