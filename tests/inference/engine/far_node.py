"""A node behind its door on this machine: TLS, a certificate and a secret, but no model."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from inference.dialling import RemoteNode
from inference.engine.certificate import fingerprint_of, own_certificate, server_context
from inference.engine.config import EngineConfig
from inference.engine.door import Door, listen
from inference.engine.server import Node
from inference.frames import encode
from inference.messages import PROTOCOL_VERSION, Welcome, Wire
from models_app import nodes
from models_app.models import Node as Row
from models_app.nodes import Enrolled

SECRET = "5" * 64


class House:
    """A node behind a door, and where it is. With `ahead_s` it only says hello: so much too early.

    What has ended there stands in `folder`.
    """

    def __init__(self, folder: Path, *, ahead_s: float | None = None) -> None:
        folder.mkdir(exist_ok=True)
        certificate = own_certificate(folder)
        listener = listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self.fingerprint = fingerprint_of(certificate)
        config = EngineConfig(
            socket_path=folder / "no.sock", blobs_dir=folder, ends_dir=folder, name="far"
        )
        self.node = Node(config)
        self.guests = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._ahead_s = ahead_s
        self.door = Door(listener, server_context(certificate), self._guest)
        self.door.secret = SECRET
        self.where = RemoteNode("far", "127.0.0.1", self.port, self.fingerprint, SECRET)

    def enrolled(self, name: str, *, last_seen_at: datetime | None = None) -> Enrolled:
        """Return what the site knows of it."""
        return Enrolled(
            name=name,
            host=self.where.host,
            port=self.port,
            fingerprint=self.fingerprint,
            secret=SECRET,
            is_cordoned=False,
            is_draining=False,
            memory_bytes=None,
            devices=(),
            last_seen_at=last_seen_at,
        )

    async def close(self) -> None:
        """Let nobody in any more, and end."""
        await self.door.close()
        await self.node.drain()

    async def _guest(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: Sequence[Wire]
    ) -> None:
        self.guests += 1
        self.writers.append(writer)
        if self._ahead_s is None:
            await self.node.serve_connection(reader, writer, first)
            return
        at_ms = int((time.time() + self._ahead_s) * 1000)
        writer.write(encode(Welcome(protocol=PROTOCOL_VERSION, node="far", at_ms=at_ms)))
        await reader.read()
        writer.close()

    async def stranger(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without a word."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


@contextmanager
def far_house(folder: Path, *, ahead_s: float | None = None) -> Iterator[House]:
    """Run one on a thread, for a test that has no event loop."""
    found: list[tuple[House, asyncio.AbstractEventLoop, asyncio.Event]] = []
    is_open = threading.Event()

    async def live() -> None:
        leaving = asyncio.Event()
        house = House(folder, ahead_s=ahead_s)
        found.append((house, asyncio.get_running_loop(), leaving))
        is_open.set()
        await leaving.wait()
        await house.close()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert is_open.wait(60)
    [(house, loop, leaving)] = found
    try:
        yield house
    finally:
        loop.call_soon_threadsafe(leaving.set)
        thread.join(60)


def joined(house: House, name: str) -> None:
    """Have it belong to the site, and know the secret that it got when it joined."""
    Row.objects.create(
        name=name,
        token_digest=name,
        address=f"127.0.0.1:{house.port}",
        fingerprint=house.fingerprint,
    )
    [house.door.secret] = [node.secret for node in nodes.enrolled() if node.name == name]
