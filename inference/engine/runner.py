"""One loaded model in a process of its own: `python -m inference.engine.runner FD`.

A crash, an abort inside ggml or a hostile file ends this process only. It gets one socket, no
environment worth reading and limits on what it may do. Frames in: OpenModel, then Generate and
Cancel; out: Opened or OpenFailed, then Events. The socket's end is the order to leave. Knows no
node, no other model and no user.
"""

import ctypes
import logging
import resource
import select
import signal
import socket
import sys
from typing import Final

from inference.engine.batch import BatchLoop
from inference.engine.llama import LlamaModel, LoadError, Model
from inference.messages import (
    Cancel,
    Events,
    FrameDecoder,
    Generate,
    Opened,
    OpenFailed,
    OpenModel,
    ToRunner,
    Wire,
    encode,
)

_PR_SET_PDEATHSIG: Final = 1
_READ_BYTES: Final = 256 * 1024


class Channel:
    """The blocking side of the runner's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder: FrameDecoder[Wire] = FrameDecoder(ToRunner)
        self.is_open = True

    def receive(self, *, wait: bool) -> list[Wire]:
        """Return the messages that have come; with `wait`, sleep until there is something."""
        readable, _, _ = select.select([self._socket], [], [], None if wait else 0)
        if not readable:
            return []
        data = self._socket.recv(_READ_BYTES)
        self.is_open = bool(data)
        return self._decoder.feed(data)

    def send(self, message: Wire) -> None:
        """Send one message, waiting while the node does not read."""
        self._socket.sendall(encode(message))


def main() -> None:
    """Serve one model until the node closes the socket."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    _confine()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    request = _first_message(channel)
    if request is None:
        return
    try:
        model = LlamaModel(request)
    except LoadError as error:
        channel.send(OpenFailed(message=str(error)))
        return
    channel.send(
        Opened(
            size_bytes=model.size_bytes,
            size_vram_bytes=model.size_vram_bytes,
            context_length=model.window_tokens,
        )
    )
    serve(channel, model, parallel=request.parallel)


def serve(channel: Channel, model: Model, *, parallel: int) -> None:
    """Run the batch loop between the socket and the model."""
    loop = BatchLoop(model, parallel=parallel)
    while True:
        messages = channel.receive(wait=loop.is_idle)
        if not channel.is_open:
            return
        for message in messages:
            if isinstance(message, Generate):
                loop.add(message)
            elif isinstance(message, Cancel):
                loop.cancel(message.request_id)
        if events := loop.step():
            channel.send(Events(events=tuple(events)))


def _first_message(channel: Channel) -> OpenModel | None:
    while channel.is_open:
        for message in channel.receive(wait=True):
            if isinstance(message, OpenModel):
                return message
    return None


def _confine() -> None:
    """Give up what a runner never needs; leave when the node dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole terminal group; the node decides when a runner leaves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


if __name__ == "__main__":
    main()
