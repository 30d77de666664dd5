"""Files of models that are fetched from the site, over real HTTP from a site that may be spoilt."""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inference.engine import blob_cache
from inference.engine.blob_cache import BlobCache, FetchFailed
from inference.engine.site import Site, SiteError

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).hexdigest()
TOKEN = "osn-test"


class Served:
    """What the site does."""

    def __init__(self) -> None:
        self.data = DATA
        self.asked: list[tuple[str, str]] = []  # method, Range
        self.cuts: list[int] = []  # after so many bytes, one for each answer
        self.status = 0
        self.location = ""
        self.held: threading.Event | None = None  # half of a body comes before it is set
        self.tokens: set[str] = set()


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def _answer(self, *, has_body: bool) -> None:
            asked = self.headers.get("Range", "")
            served.asked.append((self.command, asked))
            served.tokens.add(self.headers.get("Authorization", ""))
            start = int(asked[6:-1]) if asked else 0
            self.send_response(served.status or (206 if asked else 200))
            if served.location:
                self.send_header("Location", served.location)
            self.send_header("Content-Length", str(len(served.data) - start))
            self.end_headers()
            if has_body:
                end = start + served.cuts.pop(0) if served.cuts else None
                data, half = served.data[start:end], len(served.data) // 2
                self.wfile.write(data[:half])
                if served.held is not None:
                    served.held.wait(30)
                self.wfile.write(data[half:])

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def site(served: Served) -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(served))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_port}", TOKEN)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_cache, "_PAUSE_S", 0.01)


def cache_of(folder: Path, site: Site, **changes: Any) -> BlobCache:
    return BlobCache(folder, site, **({"in_use": set} | changes))


def put(folder: Path, text: str, *, used_at: int) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"sha256-{digest}"
    path.write_bytes(b"x" * 1000)
    os.utime(path, (used_at, used_at))
    return digest


async def test_a_file_is_fetched_by_its_digest_with_the_nodes_token(
    tmp_path: Path, site: Site, served: Served
) -> None:
    cache = cache_of(tmp_path, site)
    await cache.bring([DIGEST])
    assert (tmp_path / f"sha256-{DIGEST}").read_bytes() == DATA
    assert cache.digests == (DIGEST,)
    assert served.tokens == {f"Bearer {TOKEN}"}
    assert cache_of(tmp_path, site).has([DIGEST])


async def test_many_who_wait_have_it_fetched_once(
    tmp_path: Path, site: Site, served: Served
) -> None:
    cache = cache_of(tmp_path, site)
    await asyncio.gather(*(cache.bring([DIGEST]) for _ in range(20)))
    assert [method for method, _ in served.asked] == ["HEAD", "GET"]


async def test_who_leaves_does_not_end_it_for_others(tmp_path: Path, site: Site) -> None:
    cache = cache_of(tmp_path, site)
    leaving = asyncio.create_task(cache.bring([DIGEST]))
    staying = asyncio.create_task(cache.bring([DIGEST]))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert cache.has([DIGEST])


async def test_a_transfer_that_was_cut_goes_on_where_it_was(
    tmp_path: Path, site: Site, served: Served
) -> None:
    served.cuts = [100_000, 50_000]
    await cache_of(tmp_path, site).bring([DIGEST])
    assert (tmp_path / f"sha256-{DIGEST}").read_bytes() == DATA
    assert served.asked[1:] == [
        ("GET", ""),
        ("GET", "bytes=100000-"),
        ("GET", "bytes=150000-"),
    ]


async def test_so_does_one_of_an_earlier_start(tmp_path: Path, site: Site, served: Served) -> None:
    (tmp_path / f"sha256-{DIGEST}.part").write_bytes(DATA[:70_000])
    await cache_of(tmp_path, site).bring([DIGEST])
    assert served.asked[1:] == [("GET", "bytes=70000-")]
    assert not list(tmp_path.glob("*.part"))


async def test_a_file_with_another_digest_is_refused_and_not_kept(
    tmp_path: Path, site: Site, served: Served
) -> None:
    served.data = DATA[:-1] + b"x"
    cache = cache_of(tmp_path, site)
    with pytest.raises(FetchFailed, match="digest"):
        await cache.bring([DIGEST])
    assert not cache.has([DIGEST])
    assert list(tmp_path.iterdir()) == []
    served.data = DATA
    await cache.bring([DIGEST])


async def test_a_spoilt_part_costs_one_more_transfer_and_no_more(
    tmp_path: Path, site: Site, served: Served
) -> None:
    (tmp_path / f"sha256-{DIGEST}.part").write_bytes(b"x" * 70_000)
    cache = cache_of(tmp_path, site)
    with pytest.raises(FetchFailed):
        await cache.bring([DIGEST])
    await cache.bring([DIGEST])
    assert (tmp_path / f"sha256-{DIGEST}").read_bytes() == DATA


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_refusal_is_told(tmp_path: Path, site: Site, served: Served, status: int) -> None:
    served.status = status
    with pytest.raises(FetchFailed, match="could not be fetched"):
        await cache_of(tmp_path, site).bring([DIGEST])


async def test_no_redirect_is_followed(tmp_path: Path, site: Site, served: Served) -> None:
    served.status, served.location = 302, "http://127.0.0.1:9/elsewhere"
    with pytest.raises(FetchFailed, match="302"):
        await cache_of(tmp_path, site).bring([DIGEST])


async def test_a_site_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="cannot be reached"):
        await cache_of(tmp_path, Site("http://127.0.0.1:9", TOKEN)).bring([DIGEST])


async def test_what_was_used_least_recently_leaves_and_nothing_that_is_in_use(
    tmp_path: Path, site: Site
) -> None:
    oldest, older, newer = (
        put(tmp_path, text, used_at=at) for text, at in (("a", 1), ("b", 2), ("c", 3))
    )
    limit = len(DATA) + 2500
    cache = cache_of(tmp_path, site, limit_bytes=limit, in_use=lambda: {oldest})
    await cache.bring([DIGEST])
    assert set(cache.digests) == {oldest, newer, DIGEST}
    assert not (tmp_path / f"sha256-{older}").exists()


async def test_a_file_that_has_no_room_is_told_with_numbers(
    tmp_path: Path, site: Site, served: Served
) -> None:
    kept = put(tmp_path, "a", used_at=1)
    cache = cache_of(tmp_path, site, limit_bytes=len(DATA), in_use=lambda: {kept})
    with pytest.raises(FetchFailed, match=r"500\.0 KiB, and this node has room for 499\.0 KiB"):
        await cache.bring([DIGEST])
    assert cache.has([kept])
    assert [method for method, _ in served.asked] == ["HEAD"]


async def test_what_is_loaded_again_counts_as_used(tmp_path: Path, site: Site) -> None:
    loaded, other = (put(tmp_path, text, used_at=at) for text, at in (("a", 1), ("b", 2)))
    cache = cache_of(tmp_path, site, limit_bytes=len(DATA) + 1000)
    assert cache.has([loaded])
    await cache.bring([DIGEST])
    assert set(cache.digests) == {loaded, DIGEST}
    assert not (tmp_path / f"sha256-{other}").exists()


async def test_a_file_that_somebody_has_removed_is_fetched_again(
    tmp_path: Path, site: Site
) -> None:
    cache = cache_of(tmp_path, site)
    await cache.bring([DIGEST])
    (tmp_path / f"sha256-{DIGEST}").unlink()
    assert not cache.has([DIGEST])
    assert cache.digests == ()
    await cache.bring([DIGEST])
    assert (tmp_path / f"sha256-{DIGEST}").read_bytes() == DATA


async def test_a_store_that_cannot_be_written_serves_what_it_has(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = put(tmp_path, "a", used_at=1)
    cache = cache_of(tmp_path, site)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    await cache.bring([kept])
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FetchFailed, match="could not be written: Read-only file system"):
        await cache.bring([DIGEST])
    assert cache.has([kept])


async def test_what_is_left_of_a_transfer_that_was_given_up_makes_room(
    tmp_path: Path, site: Site
) -> None:
    given_up = tmp_path / f"sha256-{'0' * 64}.part"
    given_up.write_bytes(b"x" * 5000)
    cache = cache_of(tmp_path, site, limit_bytes=len(DATA) + 1000)
    await cache.bring([DIGEST])
    assert not given_up.exists()
    assert cache.has([DIGEST])


async def test_what_has_come_of_a_transfer_is_not_counted_twice(
    tmp_path: Path, site: Site, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_cache, "_PIECE_BYTES", 10_000)
    other = DATA[:10_000]
    served.data, served.held = DATA, threading.Event()
    cache = cache_of(tmp_path, site, limit_bytes=len(DATA) + len(other))
    first = asyncio.create_task(cache.bring([DIGEST]))
    draft = tmp_path / f"sha256-{DIGEST}.part"
    while not draft.exists() or draft.stat().st_size < len(DATA) // 3:
        await asyncio.sleep(0.01)
    served.data = other
    second = asyncio.create_task(cache.bring([hashlib.sha256(other).hexdigest()]))
    while ("GET", "") not in served.asked[2:]:
        assert not second.done() or second.result() is None
        await asyncio.sleep(0.01)
    served.held.set()
    await asyncio.gather(first, second)
    assert len(cache.digests) == 2


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "https:///x"])
def test_what_is_no_address_of_a_site_is_refused(url: str) -> None:
    with pytest.raises(SiteError):
        Site(url, TOKEN)
