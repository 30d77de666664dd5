"""1,000 idle WebSockets on one web process."""

import asyncio
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.load.site import LoadSite, Web
from tests.processes.running_site import wait_for

# Runs beside other tests: it is its own process's memory that is looked at, and nothing is timed.
pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(600)]

SOCKETS = 1000
MOST_MIB = 300
ROUTES = ("ws/chats", "ws/chat")
# As many at a time as a page's reload brings; all at once would wait for the handshakes.
_TOGETHER = 20


@pytest.fixture
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
    host = f"127.0.0.1:{web.port}"
    headers = {"Cookie": f"ollamasite_session={session}", "Origin": f"http://{host}"}

    async def open_one(number: int) -> None:
        url = f"ws://{host}/{ROUTES[number % len(ROUTES)]}"
        async with turn:
            socket = await connect(
                url, additional_headers=headers, open_timeout=120, ping_interval=None
            )
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
