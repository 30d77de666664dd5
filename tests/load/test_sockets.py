"""Idle WebSockets on one web process: what a thousand hold, and what hundreds cost."""

import asyncio
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bench import processes
from tests.load.site import LoadSite, Web
from tests.processes.running_site import wait_for

# Runs beside other tests: it is its own process's memory that is looked at, and nothing is timed.
pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(600)]

SOCKETS = 1000
MOST_MIB = 300
ROUTES = ("ws/chats", "ws/chat")
# Each of a user of their own, who looks at jobs that do not change.
LOOKING = 300
LOOKED_AT_S = 10
# Whether all of them may still be there is three queries in 0.3 s, whether their jobs have changed
# one in two seconds.
MOST_QUERIES_A_SECOND = 15
MOST_CPU = 0.4  # of a core; on the machine where it was written, a tenth
# As many at a time as a page's reload brings; all at once would wait for the handshakes.
_TOGETHER = 20


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadSite, Web]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        site = LoadSite(tmp_path_factory.mktemp("w"))
        with site.web() as web:
            yield site, web
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_sockets_are_less_than_300_mb(web: tuple[LoadSite, Web]) -> None:
    site, process = web
    before_mib = process.rss_mib

    open_mib, connections = asyncio.run(_hold(site, process, site.session))

    each_kib = (open_mib - before_mib) * 1024 / SOCKETS
    print(  # noqa: T201
        f"{before_mib:.0f} → {open_mib:.0f} MiB, {each_kib:.0f} KiB a socket; {process.threads} "
        f"threads, {connections} connections to the database"
    )
    assert open_mib < MOST_MIB
    assert connections <= 22
    # What has closed is let go.
    wait_for(lambda: process.held().files < 100, 60)
    wait_for(lambda: process.held().tasks < 20, 60)


async def _hold(site: LoadSite, web: Web, session: str) -> tuple[float, int]:
    """Open all, wait a while, look, and close."""
    sockets: list[ClientConnection] = []
    turn = asyncio.Semaphore(_TOGETHER)

    async def open_one(number: int) -> None:
        async with turn:
            socket = await _open(web, ROUTES[number % len(ROUTES)], session)
            sockets.append(socket)
            # Idle, but not unused: what compresses messages is made with the first of them.
            await socket.send('{"type": "nothing"}')
            assert "type" in json.loads(await socket.recv())

    await asyncio.gather(*(open_one(number) for number in range(SOCKETS)))
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        await asyncio.sleep(0.5)
    assert Counter(socket.close_code for socket in sockets) == {None: SOCKETS}
    found = web.rss_mib, await asyncio.to_thread(site.database_connections, [web])
    await asyncio.gather(*(socket.close() for socket in sockets))
    return found


def test_hundreds_who_look_at_their_jobs_cost_next_to_nothing(web: tuple[LoadSite, Web]) -> None:
    site, process = web

    queries, cpu = asyncio.run(_look_on(process, site.sessions_of_others(LOOKING)))

    print(f"{LOOKING} sockets: {queries:.1f} queries and {cpu:.3f} s of CPU a second")  # noqa: T201
    assert queries < MOST_QUERIES_A_SECOND
    assert cpu < MOST_CPU


async def _look_on(web: Web, sessions: list[str]) -> tuple[float, float]:
    """Have all look on; return the process's queries and seconds of CPU in a second."""
    turn = asyncio.Semaphore(_TOGETHER)

    async def open_one(session: str) -> ClientConnection:
        async with turn:
            socket = await _open(web, "ws/jobs", session)
            assert json.loads(await socket.recv()) == {"type": "jobs", "jobs": []}
            return socket

    sockets = await asyncio.gather(*map(open_one, sessions))
    await asyncio.sleep(5)  # what opening them has left to do
    queries = (await asyncio.to_thread(web.held)).queries
    began_s, cpu_s = time.monotonic(), processes.cpu_s([web.pid])
    await asyncio.sleep(LOOKED_AT_S)
    lasted_s = time.monotonic() - began_s
    cpu = (processes.cpu_s([web.pid]) - cpu_s) / lasted_s
    queries = (await asyncio.to_thread(web.held)).queries - queries
    assert Counter(socket.close_code for socket in sockets) == {None: len(sessions)}
    await asyncio.gather(*(socket.close() for socket in sockets))
    return queries / lasted_s, cpu


async def _open(web: Web, route: str, session: str) -> ClientConnection:
    host = f"127.0.0.1:{web.port}"
    headers = {"Cookie": f"ollamasite_session={session}", "Origin": f"http://{host}"}
    url = f"ws://{host}/{route}"
    return await connect(url, additional_headers=headers, open_timeout=120, ping_interval=None)
