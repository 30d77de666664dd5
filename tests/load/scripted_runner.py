"""A runner without a model: `python -m tests.load.scripted_runner RATE TOGETHER LENGTH … FD`.

Speaks `inference.engine.runner_messages` on its socket as the real one does. Each request's first
token comes at once; the others come RATE a second, once TOGETHER requests have begun. The text of a
token is `INDEX:MONOTONIC_NS `, so that a lost, doubled or swapped one is seen, and how long it was
on its way; one that would be shorter is filled up to LENGTH characters. Knows no node.
"""

import asyncio
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

from inference.engine.runner_messages import (
    Charge,
    Measured,
    Opened,
    OpenModel,
    Pause,
    Proceed,
    Resume,
    Step,
    ToRunner,
)
from inference.frames import FrameDecoder, encode
from inference.messages import (
    Cancel,
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Started,
    Token,
    Usage,
    Wire,
)

_MIB: Final = 2**20
_PROMPT_TOKENS: Final = 10
_DEFAULT_TOKENS: Final = 16
_PULSE_S: Final = 5.0


@dataclass
class _Answer:
    total: int
    said: int = 0
    is_paused: bool = False


class ScriptedRunner:
    """The requests of the one model that is not there."""

    def __init__(
        self, writer: asyncio.StreamWriter, *, rate: float, together: int, length: int
    ) -> None:
        self._writer = writer
        self._length = length
        self._gap_s = 1 / rate
        self._together = together
        self._begun = 0
        self._answers: dict[str, _Answer] = {}

    def receive(self, message: Wire) -> None:
        match message:
            case OpenModel():
                sizes = {"weights_bytes": _MIB, "kv_bytes": _MIB, "compute_bytes": _MIB}
                self._send(Measured(**sizes))
            case Proceed():
                opened = Opened(size_bytes=3 * _MIB, size_vram_bytes=0, context_length=4096)
                self._send(opened)
            case Generate():
                self._begin(message)
            case Cancel(request_id=request_id):
                if self._answers.pop(request_id, None):
                    code = FailureCode.CANCELLED
                    failed = Failed(request_id=request_id, code=code, message="request canceled")
                    self._send(Step(events=(failed,)))
            case Pause(request_id=request_id) if answer := self._answers.get(request_id):
                answer.is_paused = True
            case Resume(request_id=request_id) if answer := self._answers.get(request_id):
                answer.is_paused = False

    async def tick(self) -> None:
        """Give everybody a token, again and again."""
        loop = asyncio.get_running_loop()
        due_s = pulse_s = loop.time()
        while True:
            due_s = max(due_s + self._gap_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            if self._begun >= self._together and self._answers:
                self._step([key for key, answer in self._answers.items() if not answer.is_paused])
                pulse_s = due_s
            elif due_s - pulse_s > _PULSE_S:
                self._send(Step())
                pulse_s = due_s

    def _begin(self, request: Generate) -> None:
        request_id = request.request_id
        self._answers[request_id] = _Answer(request.sampling.num_predict or _DEFAULT_TOKENS)
        self._begun += 1
        started = Started(request_id=request_id, prompt_tokens=_PROMPT_TOKENS)
        charge = Charge(request_id=request_id, prompt_tokens=_PROMPT_TOKENS, completion_tokens=0)
        self._send(Step(events=(started,), charges=(charge,)))
        self._step([request_id])

    def _step(self, request_ids: list[str]) -> None:
        events: list[Event] = []
        charges = []
        for request_id in request_ids:
            answer = self._answers[request_id]
            text = f"{answer.said}:{time.monotonic_ns()} ".ljust(self._length)
            answer.said += 1
            events.append(Token(request_id=request_id, text=text))
            charges.append(Charge(request_id=request_id, prompt_tokens=0, completion_tokens=1))
            if answer.said >= answer.total:
                events.append(self._end(request_id))
        self._send(Step(events=tuple(events), charges=tuple(charges)))

    def _end(self, request_id: str) -> Finished:
        answer = self._answers.pop(request_id)
        usage = Usage(prompt_tokens=_PROMPT_TOKENS, completion_tokens=answer.said)
        return Finished(request_id=request_id, reason=DoneReason.LENGTH, usage=usage)

    def _send(self, message: Wire) -> None:
        self._writer.write(encode(message))


async def main() -> None:
    """Serve until the node closes the socket."""
    rate, together, length = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    descriptor = int(sys.argv[-1])
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    runner = ScriptedRunner(writer, rate=rate, together=together, length=length)
    ticking = asyncio.create_task(runner.tick())
    decoder: FrameDecoder[Wire] = FrameDecoder(ToRunner)
    while data := await reader.read(256 * 1024):
        for message in decoder.feed(data):
            runner.receive(message)
    ticking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
