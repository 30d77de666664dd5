"""A WebSocket to the whole ASGI application, without a network. Knows no message."""

import json
from typing import Any

from channels.testing import WebsocketCommunicator

HOST = (b"host", b"localhost:11434")


class Socket:
    """One WebSocket to the whole ASGI application.

    `is_cut`: whatever is sent to it fails, as a server has it whose client has gone.
    """

    def __init__(self, *headers: tuple[bytes, bytes], path: str) -> None:
        from ollamasite.asgi import application

        async def cuttable(scope: Any, receive: Any, send: Any) -> None:
            async def send_unless_cut(event: Any) -> None:
                if self.is_cut:
                    raise BrokenPipeError
                await send(event)

            await application(scope, receive, send_unless_cut)

        self.is_cut = False
        host = [] if any(name == b"host" for name, _ in headers) else [HOST]
        self.wire = WebsocketCommunicator(cuttable, path, headers=[*host, *headers])

    async def send(self, **message: Any) -> None:
        await self.wire.send_to(text_data=json.dumps(message))

    async def receive(self) -> Any:
        return json.loads(await self.wire.receive_from(timeout=60))

    async def receive_until(self, *kinds: str) -> list[Any]:
        messages = [await self.receive()]
        while messages[-1]["type"] not in kinds:
            messages.append(await self.receive())
        return messages

    async def close_code(self) -> Any:
        event = await self.wire.receive_output(timeout=60)
        assert event["type"] == "websocket.close", event
        # Whoever has been told goes; a socket that is left to the garbage fails another test.
        await self.wire.disconnect(timeout=60)
        return event["code"]
