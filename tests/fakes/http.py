"""An HTTP client that calls the ASGI application itself: no socket, whole stack, guard included.

A call can be watched chunk by chunk and left in the middle, which Django's own test client
cannot do. Knows no route.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAVE_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        """Return the objects of an NDJSON stream; every line ends with a newline."""
        assert self.body.endswith(b"\n")
        return [json.loads(line) for line in self.body.splitlines()]

    def events(self) -> list[Any]:
        """Return the data of an SSE stream; `[DONE]` stays text."""
        assert self.body.endswith(b"\n\n")
        blocks = self.body.decode().removesuffix("\n\n").split("\n\n")
        texts = [block.removeprefix("data: ") for block in blocks]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


class Call:
    """One request on its way."""

    def __init__(
        self, application: Any, scope: dict[str, Any], body: list[bytes], *, is_whole: bool
    ) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        last = len(body) - 1
        for number, part in enumerate(body):
            event = {
                "type": "http.request",
                "body": part,
                "more_body": number < last or not is_whole,
            }
            self._incoming.put_nowait(event)
        self._sent: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self.task = asyncio.create_task(application(scope, self._incoming.get, self._send))

    def stop_reading(self) -> None:
        """Take nothing any more: what is sent from now on waits until `read_on`."""
        self._reads.clear()

    def read_on(self) -> None:
        """Read again."""
        self._reads.set()

    async def leave(self) -> None:
        """Go away, and wait until the server has noticed."""
        self._incoming.put_nowait({"type": "http.disconnect"})
        async with asyncio.timeout(LEAVE_TIMEOUT_S):
            await self.task

    async def wait_for_text(self, text: str) -> None:
        """Wait until some text has been sent."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while text.encode() not in b"".join(self.chunks):
                self._news.clear()
                await self._news.wait()

    async def wait_for_start(self) -> None:
        """Wait until the answer's status has been sent."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while not self._sent:
                self._news.clear()
                await self._news.wait()

    async def wait_until_body_is_taken(self) -> None:
        """Wait until what there is of the body has been read."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while not self._incoming.empty():
                await asyncio.sleep(0.005)

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """What has been sent so far."""
        return tuple(
            event["body"]
            for event in self._sent
            if event["type"] == "http.response.body" and event.get("body")
        )

    async def answer(self) -> Answer:
        """Wait for the end and return everything."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self.task
        start = self._sent[0]
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, self.chunks)

    async def _send(self, event: Any) -> None:
        self._sent.append(event)
        self._news.set()
        await asyncio.sleep(0)
        await self._reads.wait()


class AsgiClient:
    """Sends requests with some headers of its own to the site's ASGI application."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        # Not at the top: the module builds the application, for which Django must be ready.
        from ollamasite.asgi import application

        self._application = application
        self._headers = {"host": "localhost:11434", **(headers or {})}

    def open(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        is_whole: bool = True,
    ) -> Call:
        """Send a request and return it on its way; if it is not whole, its body goes on."""
        content = json.dumps(data).encode() if data is not None else body
        whole = {**self._headers, **(headers or {})}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), text.encode()) for name, text in whole.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 11434),
        }
        parts = content if isinstance(content, list) else [content]
        return Call(self._application, scope, parts, is_whole=is_whole)

    async def request(self, method: str, path: str, **kwargs: Any) -> Answer:
        """Send a request and return the whole answer."""
        return await self.open(method, path, **kwargs).answer()

    async def get(self, path: str, **kwargs: Any) -> Answer:
        """Send a GET."""
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str, data: Any = None, **kwargs: Any) -> Answer:
        """Send a POST with a JSON body."""
        return await self.request("POST", path, data=data, **kwargs)
