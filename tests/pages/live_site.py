"""A web process that really runs, with a fake node behind it, for tests in a browser.

Knows the commands and the environment; nothing of what pages look like.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.messages import LoadedModel
from tests.databases import database_settings
from tests.fakes.engine import FakeNode
from tests.pages.catalogue import STARTER
from tests.prepared_sites import Kind, copy_prepared
from tests.processes.running_site import free_port, listens, wait_for

_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveSite:
    """Where the site is."""

    port: int

    @property
    def url(self) -> str:
        """The address a developer uses."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def live_site(folder: Path) -> Iterator[LiveSite]:
    """Run a site with the catalogue's people and models, the starter model in memory."""
    digest = copy_prepared(Kind.CATALOGUE, folder).digest
    environ = os.environ | database_settings(folder)
    environ |= {"OLLAMASITE_DATA_DIR": str(folder), "OLLAMASITE_LOG_LEVEL": "WARNING"}
    environ |= {"OLLAMASITE_SIGN_INS_PER_MINUTE": "0"}  # every test signs in anew
    site = LiveSite(free_port())
    with _node_in_thread(folder / "run" / "engine.sock", digest):
        command = _command("ollamasite", "web", "--host", "127.0.0.1", "--port", str(site.port))
        with (folder / "web.log").open("w") as log:
            web = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: web.poll() is not None or listens(site.port), _START_TIMEOUT_S)
            assert web.poll() is None, (folder / "web.log").read_text()
            yield site
        finally:
            web.terminate()
            web.wait(30)


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


@contextlib.contextmanager
def _node_in_thread(socket_path: Path, digest: str) -> Iterator[None]:
    is_listening, is_over = threading.Event(), threading.Event()

    async def serve() -> None:
        node = FakeNode(socket_path)
        node.loaded[digest] = LoadedModel(
            name=STARTER,
            digest=digest,
            size_bytes=209_505_483,
            size_vram_bytes=0,
            context_length=4096,
            expires_in_s=272.0,
        )
        await node.start()
        is_listening.set()
        await asyncio.to_thread(is_over.wait)
        await node.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert is_listening.wait(_START_TIMEOUT_S)
        yield
    finally:
        is_over.set()
        thread.join()
