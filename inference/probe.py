"""Whether a node answers on this machine's socket, and in which version. Blocks.

For `ollamasite check`, which wants to know why it does not. Knows no Django.
"""

import socket
import time
from pathlib import Path

from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import PROTOCOL_VERSION, FromNode, Hello, Welcome, Wire

_READ_BYTES = 64 * 1024


class NodeProblem(Exception):
    """No node that one could use; the message says why."""


def greet(path: Path, *, timeout_s: float) -> str:
    """Return the name of the node behind a socket. Raises NodeProblem."""
    until = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(encode(Hello(protocol=PROTOCOL_VERSION, client="check")))
            welcome = _first_message(client, until)
    except TimeoutError as error:
        raise NodeProblem(f"it did not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise NodeProblem(error.strerror or str(error)) from error
    except ProtocolError as error:
        raise NodeProblem("it speaks another protocol") from error
    if welcome.protocol != PROTOCOL_VERSION:
        raise NodeProblem(
            f"it speaks version {welcome.protocol} of the protocol, this program version "
            f"{PROTOCOL_VERSION}: one of the two was not restarted after an upgrade"
        )
    return welcome.node


def _first_message(client: socket.socket, until: float) -> Welcome:
    decoder: FrameDecoder[Wire] = FrameDecoder(FromNode)
    while data := client.recv(_READ_BYTES):
        for message in decoder.feed(data):
            if isinstance(message, Welcome):
                return message
            raise ProtocolError
        if time.monotonic() > until:
            raise TimeoutError
    raise NodeProblem("it closed the connection")
