"""How fast large files go in and out: pulled from another site, and uploaded, 1 GiB on loopback.

Beside each stands the plainest program that does as much: one HTTP stream into a file, hashed as
it comes; a `cp` and the hash of the copy. Both take turns. Memory is read while ours is at work,
of every process of both sites. Knows the registry's protocol; knows no model that runs.
"""

import base64
import hashlib
import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from bench import figures, processes, report
from bench.processes import ProcessError
from bench.servers import Shape, Site
from bench.workplace import PLACE

SIZE_BYTES: Final = 1024**3
PULL_TARGET: Final = 0.8
UPLOAD_TARGET: Final = 1.3
MEMORY_TARGET_MIB: Final = 100
_SHAPE: Final = Shape(slots=1, window_tokens=512)
_CP: Final = shutil.which("cp") or "/bin/cp"
_USER: Final = "mover"
_MODEL: Final = "large"
_PIECE_BYTES: Final = 1024 * 1024
_POLL_S: Final = 0.05
_MIB: Final = 1024 * 1024
_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_MODEL_TYPE: Final = "application/vnd.ollama.image.model"
_CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
_MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class LargeFile:
    """The file that is moved."""

    path: Path
    digest: str  # `sha256:<hex>`
    size_bytes: int


@dataclass(slots=True)
class Measured:
    """Seconds of every round, and by how much processes grew while ours was at work."""

    ours_s: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    growth_mib: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Ours to plain, in seconds: the median of the rounds' ratios."""
        pairs = zip(self.ours_s, self.plain_s, strict=True)
        return figures.median([ours / plain for ours, plain in pairs])


@dataclass(frozen=True, slots=True)
class Found:
    """Both directions."""

    pull: Measured
    upload: Measured


def measure(rounds: int) -> Found:
    """Move the file back and forth. Raises ProcessError."""
    file = _large_file()
    source = Site("source", _SHAPE, [], [_USER])
    allowed = {"OLLAMASITE_ALLOWED_REGISTRIES": f"127.0.0.1:{source.port}"}
    puller = Site("puller", _SHAPE, [], [_USER], allowed)
    try:
        for site in (source, puller):
            site.start()
        found = Found(Measured(), Measured())
        for number in range(rounds):
            report.log(f"transfer: round {number + 1} of {rounds}")
            _upload_round(file, source, found.upload)
            _pull_round(file, source, puller, found.pull)
        return found
    finally:
        for site in (source, puller):
            site.stop()


def to_markdown(found: Found) -> str:
    """Return the tables."""
    head = ["1 GiB on loopback", "ours s", "plain s", "asked", "seen", "most growth of a process"]
    speed = 1 / found.pull.ratio
    rows = [
        [
            "pull from another site, beside one stream with sha256",
            *_seconds(found.pull),
            f"≥ {PULL_TARGET:.0%} of its speed",
            f"{speed:.0%}: {_verdict(is_met=speed >= PULL_TARGET)}",
            _growth(found.pull),
        ],
        [
            "upload to `/v2/`, beside `cp` and sha256",
            *_seconds(found.upload),
            f"≤ {UPLOAD_TARGET} × its time",
            f"{found.upload.ratio:.2f}: {_verdict(is_met=found.upload.ratio <= UPLOAD_TARGET)}",
            _growth(found.upload),
        ],
    ]
    return report.table(head, rows)


def _seconds(measured: Measured) -> tuple[str, str]:
    return f"{figures.median(measured.ours_s):.2f}", f"{figures.median(measured.plain_s):.2f}"


def _growth(measured: Measured) -> str:
    name, growth = max(measured.growth_mib.items(), key=lambda item: item[1])
    verdict = _verdict(is_met=growth <= MEMORY_TARGET_MIB)
    return f"{growth:.0f} MiB, {name} (≤ {MEMORY_TARGET_MIB}: {verdict})"


def _verdict(*, is_met: bool) -> str:
    return "met" if is_met else "**missed**"


# ------------------------------------------------------------------ one round


def _upload_round(file: LargeFile, source: Site, measured: Measured) -> None:
    copy = PLACE / "plain-copy"
    begin_s = time.perf_counter()
    subprocess.run([_CP, str(file.path), str(copy)], check=True)
    _hash_of(copy)
    measured.plain_s.append(time.perf_counter() - begin_s)
    copy.unlink()
    with _watched(measured, [source]):
        begin_s = time.perf_counter()
        _upload(source, file)
        measured.ours_s.append(time.perf_counter() - begin_s)
    config = _upload_bytes(source, b"{}")
    layers = [_descriptor(_MODEL_TYPE, file.digest, file.size_bytes)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _descriptor(_CONFIG_TYPE, config, 2),
        "layers": layers,
    }
    path = f"/v2/{_USER}/{_MODEL}/manifests/latest"
    body = json.dumps(manifest).encode()
    _ask(source, "PUT", path, body, {"content-type": _MANIFEST_TYPE}, expected=_CREATED)


def _forget(site: Site, name: str) -> None:
    """Have a site delete the model and with it the file: each round brings it anew."""
    _ask(site, "DELETE", "/api/delete", json.dumps({"model": name}).encode(), {}, expected=_OK)


def _pull_round(file: LargeFile, source: Site, puller: Site, measured: Measured) -> None:
    copy = PLACE / "plain-copy"
    begin_s = time.perf_counter()
    _plain_copy(source, f"/v2/{_USER}/{_MODEL}/blobs/{file.digest}", copy, file.digest)
    measured.plain_s.append(time.perf_counter() - begin_s)
    copy.unlink()
    name = f"127.0.0.1:{source.port}/{_USER}/{_MODEL}"
    asked = {
        "model": name,
        "insecure": True,
        "stream": False,
        "username": _USER,
        "password": source.keys[_USER],
    }
    with _watched(measured, [source, puller]):
        begin_s = time.perf_counter()
        _ask(puller, "POST", "/api/pull", json.dumps(asked).encode(), {}, expected=_OK)
        measured.ours_s.append(time.perf_counter() - begin_s)
    _forget(puller, name)
    _forget(source, f"{_USER}/{_MODEL}")


def _plain_copy(site: Site, path: str, target: Path, digest: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=300)
    connection.request("GET", path, headers=_auth(site))
    response = connection.getresponse()
    hasher = hashlib.sha256()
    with target.open("wb") as file:
        while piece := response.read(_PIECE_BYTES):
            hasher.update(piece)
            file.write(piece)
    connection.close()
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise ProcessError(f"the plain copy failed with {response.status}\n{site.last_words()}")


def _upload(site: Site, file: LargeFile) -> None:
    """Upload as a client does that has hashed its file before."""
    location = _begin_upload(site)
    with file.path.open("rb") as body:
        headers = {"content-length": str(file.size_bytes)}
        _ask(site, "PUT", f"{location}digest={file.digest}", body, headers, expected=_CREATED)


def _upload_bytes(site: Site, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _ask(site, "PUT", f"{_begin_upload(site)}digest={digest}", data, {}, expected=_CREATED)
    return digest


def _begin_upload(site: Site) -> str:
    path = f"/v2/{_USER}/{_MODEL}/blobs/uploads/"
    headers = _ask(site, "POST", path, b"", {}, expected=_ACCEPTED)
    location = headers["location"].partition(f":{site.port}")[2]
    return location + ("&" if "?" in location else "?")


def _ask(
    site: Site, method: str, path: str, body: object, headers: Mapping[str, str], *, expected: int
) -> dict[str, str]:
    """Send a request and return the answer's headers. Raises ProcessError."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=600)
    connection.blocksize = _PIECE_BYTES
    connection.request(method, path, body, {**headers, **_auth(site)})  # type: ignore[arg-type]
    response = connection.getresponse()
    text = response.read().decode("utf-8", "replace")
    connection.close()
    if response.status != expected:
        raise ProcessError(f"{method} {path}: {response.status} {text}\n{site.last_words()}")
    return {name.lower(): value for name, value in response.getheaders()}


def _auth(site: Site) -> dict[str, str]:
    pair = base64.b64encode(f"{_USER}:{site.keys[_USER]}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


# ------------------------------------------------------------------ memory


@contextmanager
def _watched(measured: Measured, sites: list[Site]) -> Iterator[None]:
    """Note by how much every process of the sites grows meanwhile."""
    before = {pid: processes.rss_bytes(pid) for site in sites for pid in site.pids}
    has_ended = threading.Event()
    most = dict(before)

    def watch() -> None:
        while not has_ended.wait(_POLL_S):
            for pid in most:
                most[pid] = max(most[pid], processes.rss_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        has_ended.set()
        watcher.join()
    for pid, size_bytes in before.items():
        name = processes.command_line(pid).rpartition(" ")[2] or "a process"
        growth = (most[pid] - size_bytes) / _MIB
        measured.growth_mib[name] = max(growth, measured.growth_mib.get(name, 0.0))


# ------------------------------------------------------------------ the file


def _large_file() -> LargeFile:
    """Return a GGUF file with one tensor of 1 GiB; made once."""
    path = PLACE / "large.gguf"
    if not path.exists():
        _write(path.with_suffix(".draft"))
        path.with_suffix(".draft").rename(path)
    return LargeFile(path, _hash_of(path), path.stat().st_size)


def _write(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    data = np.random.default_rng(0).bytes(SIZE_BYTES)
    writer.add_tensor("token_embd.weight", np.frombuffer(data, np.float16).reshape(-1, 1024))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
