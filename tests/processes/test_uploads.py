"""Uploads through the really running site: sockets, uvicorn and its process's memory."""

import hashlib
import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.running_site import RunningSite, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

MiB = 1024 * 1024
PIECE = bytes(range(256)) * 4096  # 1 MiB
PIECES = 192


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    site = RunningSite(tmp_path_factory.mktemp("uploads") / "data", "--no-starter-model")
    site.wait_until_started()
    yield site
    site.end()
    site.clean_up()


def digest_of(count: int) -> str:
    hasher = hashlib.sha256()
    for _ in range(count):
        hasher.update(PIECE)
    return f"sha256:{hasher.hexdigest()}"


def upload(
    connection: http.client.HTTPConnection, key: str, digest: str, count: int
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}", "Content-Length": str(count * MiB)}
    body = (PIECE for _ in range(count))
    connection.request("POST", f"/api/blobs/{digest}", body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def connect(site: RunningSite) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)


def files_of(site: RunningSite) -> set[str]:
    return {path.name for path in (site.data_dir / "blobs").glob("*")}


def test_large_file_costs_no_memory_and_its_connection_goes_on(site: RunningSite) -> None:
    web = next(pid for pid, command in site.processes().items() if " web" in command)
    connection = connect(site)
    upload(connection, site.api_key, digest_of(1), 1)
    before = peak_bytes(web)
    digest = digest_of(PIECES)

    assert upload(connection, site.api_key, digest, PIECES) == (201, b"")
    assert peak_bytes(web) - before < 32 * MiB
    assert upload(connection, site.api_key, digest, PIECES) == (200, b"")
    assert (site.data_dir / "blobs" / digest.replace(":", "-")).stat().st_size == PIECES * MiB
    connection.close()


def test_refused_client_gets_to_read_why(site: RunningSite) -> None:
    connection = connect(site)

    assert upload(connection, "nonsense", digest_of(2), 32) == (401, b'{"error":"unauthorized"}')
    status, body = upload(connection, site.api_key, "sha256:x", 32)
    assert (status, body) == (400, b'{"error":"invalid digest format"}')
    connection.close()


def send_head(site: RunningSite, digest: str, *lines: str) -> socket.socket:
    sender = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    head = [
        f"POST /api/blobs/{digest} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {site.api_key}",
        *lines,
    ]
    sender.sendall("\r\n".join([*head, "", ""]).encode())
    return sender


def test_cut_connection_leaves_nothing(site: RunningSite) -> None:
    before = files_of(site)
    sender = send_head(site, digest_of(7), f"Content-Length: {7 * MiB}")
    sender.sendall(PIECE * 3)
    wait_for(lambda: bool(files_of(site) - before))
    sender.close()

    wait_for(lambda: not files_of(site) - before)


def test_client_that_asks_first_need_not_send_a_known_file(site: RunningSite) -> None:
    connection = connect(site)
    upload(connection, site.api_key, digest_of(3), 3)
    connection.close()
    sender = send_head(site, digest_of(3), f"Content-Length: {3 * MiB}", "Expect: 100-continue")

    assert sender.recv(100).startswith(b"HTTP/1.1 200 ")
    sender.close()


def test_chunked_body_is_stored(site: RunningSite) -> None:
    sender = send_head(site, digest_of(4), "Transfer-Encoding: chunked")
    for _ in range(4):
        sender.sendall(f"{MiB:x}\r\n".encode() + PIECE + b"\r\n")
    sender.sendall(b"0\r\n\r\n")

    assert sender.recv(100).startswith(b"HTTP/1.1 201 ")
    sender.close()
