"""Files of the registry through the really running site: sockets, uvicorn, its process's memory."""

import contextlib
import hashlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.running_site import RunningSite, wait_for

pytestmark = pytest.mark.slow

MiB = 1024 * 1024
PIECE = bytes(range(256)) * 4096  # 1 MiB
PIECES = 256
MAX_GROWTH_BYTES = 100 * MiB
MAX_PING_S = 0.5  # two cores, which the client and the hash share
TRIES = 6  # what else the machine does may delay one of them


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    site = RunningSite(tmp_path_factory.mktemp("registry") / "data", "--no-starter-model")
    site.wait_until_started()
    yield site
    site.end()
    site.clean_up()


@contextlib.contextmanager
def opened(
    site: RunningSite, method: str, path: str, body: object = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """Send a request and give its answer, of which perhaps not everything has come."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    path = path.removeprefix(site.url)
    connection.request(method, path, body=body, headers=sent)  # type: ignore[arg-type]
    with contextlib.closing(connection), connection.getresponse() as answer:
        yield answer


def request(
    site: RunningSite, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request in the admin's name and return status, headers and body of its answer."""
    authorization = f"Bearer {site.api_key}"
    with opened(site, method, path, body, Authorization=authorization, **headers) as answer:
        return answer.status, answer.headers, answer.read()


def digest_of(count: int) -> str:
    hasher = hashlib.sha256()
    for _ in range(count):
        hasher.update(PIECE)
    return f"sha256:{hasher.hexdigest()}"


def push(site: RunningSite, count: int, name: str = "library/file") -> str:
    """Push a file of so many pieces and return its path."""
    digest = digest_of(count)
    _, begun, _ = request(site, "POST", f"/v2/{name}/blobs/uploads/")
    body = (PIECE for _ in range(count))
    length = {"Content_Length": str(count * MiB), "Content_Range": f"0-{count * MiB - 1}"}
    status, sent, _ = request(site, "PATCH", begun["Location"], body, **length)
    assert status == 202
    status, _, content = request(site, "PUT", f"{sent['Location']}?digest={digest}")
    assert status == 201, content
    return f"/v2/{name}/blobs/{digest}"


def web_of(site: RunningSite) -> int:
    return next(pid for pid, command in site.processes().items() if " web" in command)


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


class Pings(threading.Thread):
    """Asks for a sign of life again and again, and keeps how long the slowest took."""

    def __init__(self, site: RunningSite) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._is_over = threading.Event()
        self.slowest_s = 0.0

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            begin_s = time.monotonic()
            request(self._site, "GET", "/healthz")
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin_s)

    def end(self) -> float:
        self._is_over.set()
        self.join()
        return self.slowest_s


def there_and_back(site: RunningSite) -> float:
    """Push a large file and get it; return how long the slowest sign of life took meanwhile."""
    pings = Pings(site)
    pings.start()
    path = push(site, PIECES)
    hasher = hashlib.sha256()
    with opened(site, "GET", path, Authorization=f"Bearer {site.api_key}") as answer:
        while piece := answer.read(MiB):
            hasher.update(piece)
    assert path.endswith(hasher.hexdigest())
    return pings.end()


def test_large_file_goes_both_ways_without_memory_or_delay(site: RunningSite) -> None:
    web = web_of(site)
    push(site, 1)
    before = peak_bytes(web)
    slowest_s: list[float] = []
    while not slowest_s or (min(slowest_s) >= MAX_PING_S and len(slowest_s) < TRIES):
        slowest_s.append(there_and_back(site))

    assert peak_bytes(web) - before < MAX_GROWTH_BYTES
    assert min(slowest_s) < MAX_PING_S, slowest_s


def test_reader_who_stands_still_costs_no_memory(site: RunningSite) -> None:
    web = web_of(site)
    path = push(site, PIECES)
    before = peak_bytes(web)
    reader = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {site.api_key}"]
    reader.sendall("\r\n".join([*head, "", ""]).encode())
    time.sleep(2)

    assert peak_bytes(web) - before < 16 * MiB
    reader.close()


def test_ollama_gets_parts_from_the_location_of_an_answer_it_leaves(site: RunningSite) -> None:
    # As a real one pulls (registry.md 1.4): headers, away, then ranges without a credential.
    path = push(site, 8)
    with opened(site, "GET", path, Authorization=f"Bearer {site.api_key}") as probe:
        location = probe.headers["Location"]
    asked = f"bytes={MiB + 5}-{2 * MiB + 4}"
    with opened(site, "GET", location, Range=asked, User_Agent="Go-http-client/1.1") as part:
        assert (part.status, part.read()) == (206, PIECE[5:] + PIECE[:5])


def test_upload_that_is_cut_goes_on_at_the_very_byte(site: RunningSite) -> None:
    _, begun, _ = request(site, "POST", "/v2/library/cut/blobs/uploads/")
    session = begun["Location"]
    sender = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    head = [
        f"PATCH {session.removeprefix(site.url)} HTTP/1.1",
        f"Host: 127.0.0.1:{site.port}",
        f"Authorization: Bearer {site.api_key}",
        f"Content-Length: {7 * MiB}",
    ]
    sender.sendall("\r\n".join([*head, "", ""]).encode() + PIECE * 5 + PIECE[:77])
    upload = f"upload-{begun['Docker-Upload-UUID']}"
    file = site.data_dir / "blobs" / upload
    wait_for(lambda: file.stat().st_size > MiB)
    sender.close()
    wait_for(lambda: file.stat().st_size == 5 * MiB + 77)
    status, told, _ = request(site, "GET", session)
    assert (status, told["X-Upload-Bytes"]) == (204, str(5 * MiB + 77))
    rest = PIECE[77:] + PIECE * 2
    chunk = f"{5 * MiB + 77}-{8 * MiB - 1}"
    wait_for(lambda: request(site, "PATCH", session, rest, Content_Range=chunk)[0] == 202)

    assert request(site, "PUT", f"{session}?digest={digest_of(8)}")[0] == 201


def test_refused_sender_gets_to_read_why(site: RunningSite) -> None:
    path = "/v2/library/x/blobs/uploads/?digest=sha256:x"
    status, _, content = request(site, "POST", path, PIECE * 32)

    assert status == 400
    assert json.loads(content)["errors"][0]["code"] == "DIGEST_INVALID"
