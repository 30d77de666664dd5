"""An inference node without a model: tokens at a set rate, each saying when it was made.

`python -m bench.scripted_node SOCKET RATE [TEXT]` serves `inference.messages` on a unix socket. A
generation's first token comes at once, the others at RATE a second in step with a tick, so that
one frame carries what many streams get, as from a batch loop. The text of a token is
`INDEX:MONOTONIC_NS `, or the next word of the file TEXT, over and over. Knows no HTTP and no
Django.
"""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from inference.frames import FrameDecoder, encode
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    DoneReason,
    Event,
    Events,
    Finished,
    Generate,
    Hello,
    ListLoaded,
    LoadedModels,
    Ping,
    Pong,
    Started,
    Token,
    ToNode,
    Usage,
    Welcome,
    Wire,
)

# Streams are spread over so many ticks between two tokens of one of them.
_PHASES: Final = 5
_READ_BYTES: Final = 256 * 1024
_PROMPT_TOKENS: Final = 10
_DEFAULT_TOKENS: Final = 16


class ScriptedNode:
    """The node; every connection is answered on its own."""

    def __init__(self, tokens_per_s: float, text_of: "TextOf") -> None:
        self._tick_s = 1 / tokens_per_s / _PHASES
        self._text_of = text_of

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it leaves."""
        streams = _Streams(writer, self._text_of)
        ticking = asyncio.create_task(self._tick(streams))
        decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
        try:
            while data := await reader.read(_READ_BYTES):
                for message in decoder.feed(data):
                    streams.receive(message)
        except ConnectionError:
            pass
        finally:
            ticking.cancel()
            writer.close()

    async def _tick(self, streams: "_Streams") -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        number = 0
        while True:
            streams.tick(number % _PHASES)
            number += 1
            due_s += self._tick_s
            await asyncio.sleep(max(0.0, due_s - loop.time()))


class _Streams:
    """The generations of one connection."""

    def __init__(self, writer: asyncio.StreamWriter, text_of: "TextOf") -> None:
        self._writer = writer
        self._text_of = text_of
        self._left: list[dict[str, int]] = [{} for _ in range(_PHASES)]  # id → tokens to come
        self._total: dict[str, int] = {}
        self._accepted = 0

    def receive(self, message: Wire) -> None:
        match message:
            case Hello():
                self._send(Welcome(protocol=PROTOCOL_VERSION, node="scripted"))
            case Ping():
                self._send(Pong())
            case ListLoaded(request_id=request_id):
                self._send(LoadedModels(request_id=request_id, models=()))
            case Generate():
                self._begin(message)
            case Cancel(request_id=request_id):
                self._total.pop(request_id, None)
                for phase in self._left:
                    phase.pop(request_id, None)

    def tick(self, phase: int) -> None:
        """Give one token to each stream of a phase."""
        events: list[Event] = []
        for request_id, left in list(self._left[phase].items()):
            total = self._total[request_id]
            if left:
                events.append(self._token(request_id, total - left))
                self._left[phase][request_id] = left - 1
            else:
                del self._left[phase][request_id], self._total[request_id]
                usage = Usage(prompt_tokens=_PROMPT_TOKENS, completion_tokens=total)
                end = Finished(request_id=request_id, reason=DoneReason.LENGTH, usage=usage)
                events.append(end)
        if events:
            self._send(Events(events=tuple(events)))

    def _begin(self, request: Generate) -> None:
        request_id = request.request_id
        total = self._total[request_id] = request.sampling.num_predict or _DEFAULT_TOKENS
        self._left[self._accepted % _PHASES][request_id] = total - 1
        self._accepted += 1
        started = Started(request_id=request_id, prompt_tokens=_PROMPT_TOKENS)
        self._send(Events(events=(started, self._token(request_id, 0))))

    def _send(self, message: Wire) -> None:
        self._writer.write(encode(message))

    def _token(self, request_id: str, index: int) -> Token:
        return Token(request_id=request_id, text=self._text_of(index))


TextOf = Callable[[int], str]


def _moment(index: int) -> str:
    return f"{index}:{time.monotonic_ns()} "


def _words_of(text: str) -> TextOf:
    """Return a text's words, each with the space behind it, over and over."""
    words = re.findall(r"\S+\s*", text)
    return lambda index: words[index % len(words)]


async def _run(socket_path: Path, tokens_per_s: float, text_of: TextOf) -> None:
    node = ScriptedNode(tokens_per_s, text_of)
    server = await asyncio.start_unix_server(node.serve, path=socket_path)
    await server.serve_forever()


if __name__ == "__main__":
    _text_of = _words_of(Path(sys.argv[3]).read_text()) if len(sys.argv) > 3 else _moment  # noqa: PLR2004 - a third one
    asyncio.run(_run(Path(sys.argv[1]), float(sys.argv[2]), _text_of))
