"""`ollamasite web`: serves the site's ASGI application. Knows nothing of routes."""

import asyncio
import gc
import math
import signal
import socket
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.utils.module_loading import import_string

from inference import generation, node_ends
from inference.chats import answers
from models_app import ledger_writer, limits
from ollamasite import draining, leaving, tracing
from ollamasite.commands import SiteCommand
from ollamasite.schema import refuse_unmigrated
from ollamasite.stalled_readers import StalledReaders
from registry.jobs import watch

# Clients keep pooled connections for long; closing earlier than they do costs them errors.
_KEEP_ALIVE_S = 120
# For the last words of answers that outlast the drain, before uvicorn cuts their connections.
_LAST_WORDS_S = 3


class Command(SiteCommand):
    """Serve until SIGTERM or Ctrl-C, then let answers that have begun come to their end."""

    help = "Serve HTTP and WebSocket."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add where to listen and with which server."""
        parser.add_argument("--host", default=settings.BIND_HOST)
        parser.add_argument("--port", type=int, default=settings.BIND_PORT)
        parser.add_argument("--server", choices=("uvicorn", "daphne"), default="uvicorn")

    def handle(self, *, host: str, port: int, server: str, **_: object) -> None:
        """Run the server in this process."""
        refuse_unmigrated()
        application = import_string(settings.ASGI_APPLICATION)
        # What has been imported stays: without this, Python looks through all of it (100 ms, in
        # which every stream stands still) each time it collects garbage.
        gc.collect()
        gc.freeze()
        if settings.OTLP_ENDPOINT:
            tracing.begin(settings.OTLP_ENDPOINT)
        ledger_writer.keep_writing(node_ends.find_ends)
        try:
            _serve(application, host, port, server)
        finally:
            ledger_writer.finish()
            tracing.finish()


def _serve(application: Any, host: str, port: int, server: str) -> None:
    if server == "daphne":
        _serve_with_daphne(application, host, port)
    else:
        _serve_with_uvicorn(application, host, port)


def _serve_with_uvicorn(application: Any, host: str, port: int) -> None:
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        http=draining.DrainingProtocol,
        ws=draining.DrainingWebSocket,
        ws_max_size=settings.MAX_BODY_BYTES,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_whole_seconds(settings.DRAIN_S + _LAST_WORDS_S),
    )
    # Uvicorn raises the signal again once it has drained: then it shall end nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _DrainingServer(config).run()


class _DrainingServer(uvicorn.Server):
    """Lets answers go on for the drain time, then ends them in words instead of cutting them."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is told to go, and cut whoever reads nothing, to the end."""
        readers = StalledReaders(self.server_state.connections, within_s=settings.READER_TIMEOUT_S)
        watching = asyncio.create_task(readers.watch())
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and wait for what is still being answered."""
        # Whoever is cut off from now on wants their job all the same.
        watch.site_stops()
        leaving.begin()
        await asyncio.sleep(settings.DRAIN_DELAY_S)
        draining.let_nobody_in(listener for server in self.servers for listener in server.sockets)
        await asyncio.sleep(draining.ACCEPT_S)
        last_words = None
        if math.isfinite(settings.DRAIN_S):
            loop = asyncio.get_running_loop()
            last_words = loop.call_later(settings.DRAIN_S, generation.end_all)
        await super().shutdown(sockets)
        # Of those nobody is connected to here: their readers have gone to another process.
        await answers.wait_for_ends()
        if last_words is not None:
            last_words.cancel()
        await _finish()


async def _finish() -> None:
    """Let every request have its end, and then the limits know of it."""
    await generation.finish()
    await answers.finish()
    await limits.close()


def _serve_with_daphne(application: Any, host: str, port: int) -> None:
    # Not at the top: the import installs Twisted's event loop.
    from daphne.endpoints import (  # type: ignore[import-untyped]
        build_endpoint_description_strings,
    )
    from daphne.server import Server  # type: ignore[import-untyped]
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    server = Server(
        application=application,
        endpoints=build_endpoint_description_strings(host=host, port=port),
        server_name="",
    )
    # Twisted runs on Python's event loop here, and waits for this before it stops; meanwhile
    # Daphne ends what is still being answered.
    reactor.addSystemEventTrigger(
        "before",
        "shutdown",  # type: ignore[arg-type]  # Twisted's interface leaves out `self`
        lambda: Deferred.fromFuture(asyncio.ensure_future(_finish())),
    )
    server.run()


def _whole_seconds(seconds: float) -> int | None:
    return None if math.isinf(seconds) else math.ceil(seconds)
