"""A node on a machine of its own: no database, no Redis, only a way to the site and one from it.

It joins the site with its token, listens with its own certificate, and serves the web processes
that present the secret which the site gave it when it joined. It says again and again that it is
there, so a site that has come back, or another secret, is no reason to start it anew.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from inference.engine import machine
from inference.engine.blob_cache import BlobCache
from inference.engine.certificate import fingerprint_of, own_certificate, server_context
from inference.engine.config import EngineConfig
from inference.engine.devices import find_devices
from inference.engine.door import Door, listen
from inference.engine.server import Node
from inference.engine.site import Joined, Site, SiteError
from inference.messages import PROTOCOL_VERSION

logger = logging.getLogger(__name__)

SAY_AGAIN_S: Final = 5.0
_LEAST_PAUSE_S: Final = 0.5
_MOST_PAUSE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node listens, and as what address (`host:port`) web processes reach it."""

    host: str
    port: int
    advertised: str


async def host(
    config: EngineConfig,
    site: Site,
    place: Place,
    stopping: asyncio.Event,
    *,
    cache_limit_bytes: int | None = None,
) -> None:
    """Join, serve until `stopping` is set, then drain. Raises OSError where it cannot listen."""
    assert config.state_dir is not None  # noqa: S101 - this command always has one
    certificate = own_certificate(config.state_dir)
    listener = listen(place.host, place.port)
    config = replace(config, devices=await find_devices())
    told = _told(config, place, certificate)
    joined = await _until_joined(site, told, stopping)
    if joined is None:
        listener.close()
        return
    node = Node(replace(config, name=joined.name))
    cache = BlobCache(
        config.blobs_dir, site, in_use=node.files_in_use, limit_bytes=cache_limit_bytes
    )
    node.supply_with(cache)
    door = Door(listener, server_context(certificate), node.serve_connection)

    def heed(answer: Joined) -> None:
        door.secret = answer.secret
        if answer.is_draining:
            node.let_go()

    heed(joined)
    saying = asyncio.create_task(_say_again(site, told, heed))
    logger.info("node %s has joined and listens on %s:%d", joined.name, place.host, place.port)
    await stopping.wait()
    logger.info("draining")
    saying.cancel()
    await door.close()
    await node.drain()
    await cache.close()


def run(
    config: EngineConfig, site: Site, place: Place, *, cache_limit_bytes: int | None = None
) -> None:
    """Run the node until SIGTERM or SIGINT."""

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await host(config, site, place, stopping, cache_limit_bytes=cache_limit_bytes)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


def _told(config: EngineConfig, place: Place, certificate: Path) -> dict[str, Any]:
    total = config.memory_limit_bytes
    if total is None:
        read = machine.read_capacity().total_bytes
        total = None if read == float("inf") else int(read)
    return {
        "address": place.advertised,
        "fingerprint": fingerprint_of(certificate),
        "protocol": PROTOCOL_VERSION,
        "memory_bytes": total,
        "devices": [
            {"name": device.name, "total_bytes": device.total_bytes} for device in config.devices
        ],
    }


async def _until_joined(site: Site, told: dict[str, Any], stopping: asyncio.Event) -> Joined | None:
    """Return what the site has answered; None: it is to stop before that."""
    pause_s, said = _LEAST_PAUSE_S, ""
    while not stopping.is_set():
        try:
            return await asyncio.to_thread(site.join, told)
        except SiteError as error:
            if str(error) != said:
                said = str(error)
                logger.error("this node could not join: %s; trying again", said)  # noqa: TRY400
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stopping.wait()
        pause_s = min(_MOST_PAUSE_S, 2 * pause_s)
    return None


async def _say_again(site: Site, told: dict[str, Any], heed: Callable[[Joined], None]) -> None:
    failed_at: float | None = None
    while True:
        await asyncio.sleep(SAY_AGAIN_S)
        try:
            answer = await asyncio.to_thread(site.join, told)
        except SiteError as error:
            if failed_at is None:
                failed_at = time.monotonic()
                logger.warning("the site does not hear of this node: %s", error)
        except Exception:  # whatever it is, it must not be the last that the site has heard
            logger.exception("the site could not be told of this node")
        else:
            failed_at = None
            heed(answer)
