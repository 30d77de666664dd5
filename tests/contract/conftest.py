"""The fixtures of the inference tests, and the site on a real port for the official clients."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import pytest
import uvicorn

from inference.fleet import engine_fleet
from models_app import limits
from models_app.keys import create_key
from models_app.models import User
from models_app.policy import Access, rule_of
from tests.conftest import MakeModel
from tests.fakes.engine import PATIENCE_S, FakeNode, running_node
from tests.fakes.http import AsgiClient
from tests.inference.conftest import (
    api,
    bearer_for,
    bob_api,
    bobs_model,
    model,
    node,
    stranger,
)

# Routes that answer others too, with less.
FOR_ADMINS: Final = frozenset({"api/teams", "api/invites"})

__all__ = ["api", "bob_api", "bobs_model", "model", "node", "stranger"]

# Tools, thinking and filling in: what a template must use for a model to be able to.
ABLE_TEMPLATE = (
    "{{- if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}"
    "{{- if .Tools }}<|im_start|>system\n{{ .Tools }}<|im_end|>\n{{ end }}"
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n"
    "{{- if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
    "{{- range .ToolCalls }}<tool_call>"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}'
    "<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ end }}"
)


@dataclass(frozen=True, slots=True)
class RunningSite:
    """A site that listens, with a fake engine behind it."""

    url: str
    key: str
    node: FakeNode
    loop: asyncio.AbstractEventLoop

    def wait_for(self, kind: Any, *, timeout_s: float = PATIENCE_S) -> Any:
        """Wait until the engine got a frame of a kind."""
        waiting = self.node.wait_for(kind, timeout_s=timeout_s)
        return asyncio.run_coroutine_threadsafe(waiting, self.loop).result(timeout_s + 1)


class _Server(uvicorn.Server):
    """Ends when it is told to: uvicorn would look for that, and for what is open, every 0.1 s."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_told = asyncio.Event()

    def leave(self) -> None:
        """End; to be called in its event loop."""
        self._is_told.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._is_told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        for _ in range(20):
            if not (state.connections or state.tasks):
                for server in self.servers:
                    server.close()
                return
            await asyncio.sleep(0.005)
        await super().shutdown(sockets)


@pytest.fixture
def api_for(api: AsgiClient, admin: User) -> Callable[[str], AsgiClient]:
    """Make clients: Alice with a key, an administrator for what she may not do."""
    by_admin = AsgiClient(bearer_for(admin))

    def client(route: str) -> AsgiClient:
        is_alices = rule_of(route).access not in {Access.STAFF, Access.AUDITOR}
        return api if is_alices and route not in FOR_ADMINS else by_admin

    return client


@pytest.fixture
def able_model(transactional_db: None, make_model: MakeModel) -> str:
    """A model of the library with every capability that a template can give."""
    return make_model("able:1b", template=ABLE_TEMPLATE)


@pytest.fixture
def site(transactional_db: None, settings: Any, alice: User, model: str) -> Iterator[RunningSite]:
    """The whole application behind uvicorn, in a thread of its own."""
    from ollamasite.asgi import application

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    ready: Future[tuple[FakeNode, asyncio.AbstractEventLoop]] = Future()

    async def serve() -> None:
        async with running_node() as running:
            settings.ENGINE_SOCKET = running.socket_path
            ready.set_result((running, asyncio.get_running_loop()))
            await server.serve(sockets=[listener])
            engine_fleet(running.socket_path).close()
            await limits.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    running, loop = ready.result(60)
    port = listener.getsockname()[1]
    yield RunningSite(f"http://127.0.0.1:{port}", create_key(alice, "client")[1], running, loop)
    loop.call_soon_threadsafe(server.leave)
    thread.join(60)
    listener.close()
    assert not thread.is_alive()
