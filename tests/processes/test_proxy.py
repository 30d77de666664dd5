"""`docs/ops/nginx.conf.template` before a server that tells what reaches it: what clients forge."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from tests.processes.many_processes import ManyProcesses
from tests.processes.running_site import listens, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(120)]

CLIENT: Final = "127.0.0.5"
LIMIT_S: Final = 30.0
HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"


class _Telling(BaseHTTPRequestHandler):
    """Answers with the head that came, and keeps it."""

    server: "_Web"

    def do_GET(self) -> None:
        """Tell."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        told = [[name.lower(), value] for name, value in self.headers.items()]
        self.server.heads.append((self.path, told))
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Web(ThreadingHTTPServer):
    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Telling)
        self.heads: list[tuple[str, list[list[str]]]] = []


class Proxied:
    """The proxy, and what has come through it."""

    def __init__(self, processes: ManyProcesses, web: _Web) -> None:
        self._port = processes.ports["https"]
        self._web = web

    @property
    def heads(self) -> list[tuple[str, dict[str, str]]]:
        """Path and headers of what has reached web; no header came twice."""
        found = self._web.heads
        assert all(len(dict(told)) == len(told) for _, told in found)
        return [(path, dict(told)) for path, told in found]

    def send(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; return what is said until its end."""
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(
            ("127.0.0.1", self._port), timeout=LIMIT_S, source_address=(CLIENT, 0)
        )
        with tls.wrap_socket(plain) as connection:
            connection.sendall(data)
            said = b""
            while piece := connection.recv(65536):
                said += piece
        return said

    def ask(self, *headers: str) -> dict[str, str]:
        """Send a request; return the headers that reached web."""
        lines = ["GET /asked HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
        said = self.send("\r\n".join(lines).encode())
        assert said.startswith(b"HTTP/1.1 200"), said
        return self.heads[-1][1]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    processes = ManyProcesses(tmp_path_factory.mktemp("proxy"), {})
    web = _Web(processes.ports["web-1"])
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        processes.start("proxy")
        wait_for(lambda: listens(processes.ports["https"]), LIMIT_S)
        yield Proxied(processes, web)
    finally:
        processes.stop_all()
        web.shutdown()
        web.server_close()
        thread.join()


def test_what_a_client_says_of_itself_is_dropped(proxied: Proxied) -> None:
    told = proxied.ask(
        *(
            "X-Forwarded-For: 203.0.113.9",
            "X-Forwarded-For: 203.0.113.10",
            "X-Real-IP: 203.0.113.9",
        ),
        *("X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example"),
        *("Forwarded: for=203.0.113.9;host=evil.example", "X_Forwarded_For: 203.0.113.9"),
    )
    assert told["x-forwarded-for"] == CLIENT
    assert told["x-forwarded-proto"] == "https"
    assert told["host"] == "localhost"
    assert not told.keys() & {"x-real-ip", "x-forwarded-host", "forwarded", "x_forwarded_for"}


@pytest.mark.parametrize("protocol", ["h2c", "websocket, h2c", "tls/1.0", "websocket2"])
def test_no_other_protocol_than_websockets_is_passed_on(proxied: Proxied, protocol: str) -> None:
    told = proxied.ask(f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    assert "upgrade" not in told
    assert told["connection"] == "close"


def test_websockets_are(proxied: Proxied) -> None:
    told = proxied.ask("Upgrade: WebSocket")
    assert (told["upgrade"], told["connection"]) == ("websocket", "upgrade")


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: %d" % len(HIDDEN), b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: %d" % (5 + len(HIDDEN))],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding:\x0bchunked"],
        [b"Content-Length: +5"],
        [b"X: y\nTransfer-Encoding: chunked"],
        [b"X: y", b" Transfer-Encoding: chunked"],
    ],
)
def test_no_request_is_hidden_in_another(proxied: Proxied, lines: list[bytes]) -> None:
    """Whatever reaches web has been read by nginx as a request, and has what nginx writes."""
    head = b"\r\n".join([b"POST /outer HTTP/1.1", b"Host: localhost", *lines])
    last = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    proxied.send(head + b"\r\n\r\n" + b"0\r\n\r\n" + HIDDEN + last)
    for path, told in proxied.heads:
        assert told["x-forwarded-for"] == CLIENT, path
        assert told["x-forwarded-proto"] == "https", path


def test_a_head_without_measure_reaches_nobody(proxied: Proxied) -> None:
    count = len(proxied.heads)
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n"
    # What comes behind its buffers nginx does not read, and so it may cut off who sends it before
    # they have read why. In one record of TLS nothing comes behind them.
    assert proxied.send(head % (b"x" * 12_000)).startswith(b"HTTP/1.1 400")
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert proxied.send(head % (b"x" * 70_000)).startswith(b"HTTP/1.1 400")
    assert len(proxied.heads) == count


def test_it_does_not_say_which_version_it_is(proxied: Proxied) -> None:
    said = proxied.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    server = next(line for line in said.split(b"\r\n") if line.lower().startswith(b"server:"))
    assert server == b"Server: nginx"
