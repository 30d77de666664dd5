"""A real Ollama pulls from this site and pushes to it: its requests, replayed over real sockets.

contract/registry.md 0 and 1.3-1.7. Parts are small where a real one's have 100 MB; all else is as
it was seen on the wire.
"""

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models_app.client_keys import add_client_key
from models_app.models import User
from registry import garbage
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import MakeModel
from tests.contract.conftest import RunningSite
from tests.fakes.ollama_key import OllamaKey
from tests.fakes.ollama_server import MANIFEST_TYPE, OllamaError, OllamaServer
from tests.fakes.tcp_front import TcpFront, tcp_front

NAME = "alice/Model_1:v1"
LAYER = "application/vnd.ollama.image"
CONFIG = "application/vnd.docker.container.image.v1+json"
Machine = Callable[..., OllamaServer]


@pytest.fixture
def key(transactional_db: None, alice: User) -> OllamaKey:
    key = OllamaKey()
    add_client_key(alice, key.line, "laptop")
    return key


@pytest.fixture
def machine(site: RunningSite, key: OllamaKey) -> Machine:
    """Give another machine of Alice's, without a model."""

    def make(url: str = site.url, **fields: Any) -> OllamaServer:
        return OllamaServer(url, fields.pop("key", key), **fields)

    return make


@pytest.fixture
def front(site: RunningSite) -> Iterator[TcpFront]:
    with tcp_front(site.url.removeprefix("http://")) as front:
        yield front


@pytest.fixture
def weights(tiny_gguf: Path) -> bytes:
    return tiny_gguf.read_bytes()


def model_of(server: OllamaServer, weights: bytes, **fields: str) -> dict[str, Any]:
    """Have a model as `ollama create` makes it; return its manifest."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": server.add(b'{"model_format":"gguf"}', CONFIG),
        "layers": [
            server.add(weights, f"{LAYER}.model", **fields),
            server.add(b"{{ .Prompt }}", f"{LAYER}.template"),
            server.add(b"Be terse.", f"{LAYER}.system"),
        ],
    }


def shown(site: RunningSite, name: str) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{site.url}/api/show",
        json.dumps({"model": name}).encode(),
        {"Authorization": f"Bearer {site.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - same
        found: dict[str, Any] = json.load(answer)
    return found


def steps(server: OllamaServer) -> list[tuple[str, str, int]]:
    """What was sent: method, the last word of the path, status."""
    words = [(it.method, it.path.rstrip("/").split("/"), it.status) for it in server.sent]
    return [
        (method, "session" if path[-2] == "uploads" else path[-1][:14], status)
        for method, path, status in words
    ]


# ------------------------------------------------------------------ there and back


def test_pushed_model_is_there_at_once_and_comes_back_byte_for_byte(
    site: RunningSite, machine: Machine, weights: bytes
) -> None:
    here, there = machine(), machine()
    manifest = model_of(here, weights)

    here.push(NAME, manifest)

    assert shown(site, NAME)["system"] == "Be terse."
    assert there.pull(NAME) == manifest
    assert there.blobs == here.blobs
    assert there.manifests[NAME] == json.dumps(manifest, separators=(",", ":")).encode()


def test_push_goes_as_it_was_seen(machine: Machine, weights: bytes) -> None:
    here = machine()
    manifest = model_of(here, weights)
    here.push(NAME, manifest)

    files = [*manifest["layers"], manifest["config"]]
    parts = [-(-file["size"] // here.part_bytes) for file in files]
    expected: list[tuple[str, str, int]] = []
    for number, (file, count) in enumerate(zip(files, parts, strict=True)):
        head = ("HEAD", file["digest"][:14])
        expected.append((*head, 404 if number else 401))
        if number == 0:  # it learns where to get a token, and may only pull with that
            expected += [("GET", "token", 200), (*head, 404)]
        expected.append(("POST", "uploads", 401 if number == 0 else 202))
        if number == 0:
            expected += [("GET", "token", 200), ("POST", "uploads", 202)]
        expected += [("PATCH", "session", 202)] * count
        expected.append(("PUT", "session", 201))
    assert steps(here) == [*expected, ("PUT", "v1", 201)]
    assert parts[0] > 3
    closing = here.requests("PUT", "/uploads/")[0]
    assert closing.query["etag"].endswith(f"-{parts[0]}")
    assert closing.headers["content-length"] == "0"


def test_second_push_asks_for_the_files_and_sends_the_manifest(
    machine: Machine, weights: bytes
) -> None:
    here = machine()
    manifest = model_of(here, weights)
    here.push(NAME, manifest)
    here.sent.clear()

    here.push(NAME, manifest)

    sent = [step for step in steps(here) if step[1] != "token" and step[2] != 401]
    assert [(method, status) for method, _, status in sent] == [("HEAD", 200)] * 4 + [("PUT", 201)]


def test_layer_of_another_model_is_mounted(machine: Machine, weights: bytes) -> None:
    here = machine()
    here.push(NAME, model_of(here, weights))
    here.sent.clear()
    manifest = model_of(here, weights, **{"from": NAME})
    manifest["layers"][2] = here.add(b"Be kind.", f"{LAYER}.system")

    here.push("alice/other:latest", manifest)

    mounts = [it for it in here.requests("POST") if it.query]
    assert [it.status for it in mounts if it.status != 401] == [201]
    digests = [file["digest"] for file in [*manifest["layers"], manifest["config"]]]
    assert [it.query["digest"] for it in here.requests("PUT", "uploads")] == digests[1:]
    assert machine().pull("alice/other:latest") == manifest


def test_pull_goes_as_it_was_seen(machine: Machine, weights: bytes) -> None:
    here, there = machine(), machine()
    manifest = model_of(here, weights)
    here.push(NAME, manifest)

    there.pull(NAME)

    files = [*manifest["layers"], manifest["config"]]
    expected = [("GET", "v1", 401), ("GET", "token", 200), ("GET", "v1", 200)]
    for file in files:
        parts = -(-file["size"] // there.part_bytes)
        expected += [("HEAD", file["digest"][:14], 200), ("GET", file["digest"][:14], 200)]
        expected += [("GET", file["digest"][:14], 206)] * parts
    assert steps(there) == expected
    parts_sent = [it for it in there.sent if "range" in it.headers]
    assert all("authorization" not in it.headers for it in parts_sent)
    assert {it.headers["user-agent"] for it in parts_sent} == {"Go-http-client/1.1"}
    assert {it.url.partition("?")[0] for it in parts_sent} <= {
        f"{there.url}/v2/alice/Model_1/blobs/{file['digest']}" for file in files
    }


def test_model_that_was_made_here_is_pulled(
    site: RunningSite, machine: Machine, model: str, store: BlobStore
) -> None:
    there = machine()
    manifest = there.pull(f"library/{model}")

    for file in [*manifest["layers"], manifest["config"]]:
        assert there.blobs[file["digest"]] == store.path(Digest.parse(file["digest"])).read_bytes()


def test_site_behind_another_address_is_asked_at_that_address(
    front: TcpFront, machine: Machine, weights: bytes
) -> None:
    here = machine(f"http://{front.host}")

    here.push(NAME, model_of(here, weights))

    assert {it.url.split("/")[2] for it in here.sent} == {front.host}
    machine(f"http://{front.host}").pull(NAME)


def test_model_in_single_tensors_is_kept_for_ollama(
    site: RunningSite, machine: Machine, weights: bytes
) -> None:
    # registry.md 1.7: this site cannot run it, and stores it all the same.
    here, there = machine(), machine()
    manifest = model_of(here, weights)
    tensors = [
        here.add(weights[start : start + 9000], f"{LAYER}.tensor", name=f"blk.{start}.weight")
        for start in range(0, 90_000, 9000)
    ]
    manifest["layers"][:1] = [*tensors, here.add(b"{}", f"{LAYER}.json", name="config.json")]

    here.push(NAME, manifest)

    assert there.pull(NAME) == manifest
    assert there.blobs.items() <= here.blobs.items()


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize("cut_at", [30_000, 400_001])
def test_cut_pull_goes_on_at_the_very_byte(
    front: TcpFront, machine: Machine, weights: bytes, cut_at: int
) -> None:
    here, there = machine(), machine(f"http://{front.host}", part_bytes=10_000_000)
    here.push(NAME, model_of(here, weights))
    there.pull(NAME)
    there.blobs.clear()
    there.sent.clear()
    # The probe may carry any number of bytes, also after it is over: hence a cut from there on.
    direct = OllamaServer._direct_url

    def cut_after(self: OllamaServer, path: str) -> str:
        found = direct(self, path)
        if not front.cuts and not front.cuts_at:
            front.settle()
            front.cuts_at.append(front.passed_bytes + cut_at)
        return found

    there._direct_url = cut_after.__get__(there)  # type: ignore[method-assign]
    there.pull(NAME)

    assert front.cuts == 1
    asked = [it.headers["range"] for it in there.sent if "range" in it.headers]
    assert asked[0] == f"bytes=0-{len(weights) - 1}"
    assert 0 < int(asked[1].removeprefix("bytes=").split("-")[0]) < len(weights)
    assert asked[1].endswith(f"-{len(weights) - 1}")
    assert weights in there.blobs.values()


@pytest.mark.parametrize("cut_at", [150_000, 333_333])
def test_cut_push_is_finished_though_parts_come_again_from_their_first_byte(
    front: TcpFront, machine: Machine, weights: bytes, cut_at: int
) -> None:
    # registry.md 1.5: no status is asked for, the same part goes to the same address once more.
    here = machine(f"http://{front.host}", part_bytes=200_000, retry_s=0.2)

    def cut_in_the_first_file() -> None:
        if not front.cuts and not front.cuts_at:
            front.cuts_at.append(front.passed_bytes + cut_at)

    here.before_part = cut_in_the_first_file
    here.push(NAME, model_of(here, weights))

    assert front.cuts == 1
    assert 0 in {it.status for it in here.requests("PATCH")}
    assert weights in _pulled(machine()).blobs.values()


def _pulled(server: OllamaServer) -> OllamaServer:
    server.pull(NAME)
    return server


def test_garbage_that_is_collected_at_every_step_takes_nothing(
    machine: Machine, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "GRACE_S", 0.0)
    here, there = machine(), machine()
    manifest = model_of(here, weights)
    send = OllamaServer._send

    def send_after_collecting(self: OllamaServer, *told: Any, **more: Any) -> Any:
        if "Range" not in told[2]:  # those come at once, from several threads
            garbage.collect()
        return send(self, *told, **more)

    monkeypatch.setattr(OllamaServer, "_send", send_after_collecting)
    here.push(NAME, manifest)

    assert there.pull(NAME) == manifest
    assert there.blobs == here.blobs


def test_token_that_is_over_in_the_middle_of_a_push_is_renewed(
    machine: Machine, weights: bytes
) -> None:
    here = machine()

    def lose_token_once() -> None:
        if not here.requests("PATCH"):
            here.token = "over"

    here.before_part = lose_token_once
    here.push(NAME, model_of(here, weights))

    assert [it.status for it in here.requests("PATCH")][:2] == [401, 202]
    machine().pull(NAME)


def test_damaged_file_is_noticed_and_it_alone_is_fetched_again(
    machine: Machine, weights: bytes, store: BlobStore
) -> None:
    here, there = machine(), machine()
    manifest = model_of(here, weights)
    here.push(NAME, manifest)
    digest = manifest["layers"][0]["digest"]
    path = store.path(Digest.parse(digest))
    path.chmod(0o600)
    path.write_bytes(weights[:-1] + b"?")

    with pytest.raises(OllamaError, match="digest mismatch, file must be downloaded again"):
        there.pull(NAME)

    path.write_bytes(weights)
    there.sent.clear()
    there.pull(NAME)
    assert {it.path.rpartition("/")[2] for it in there.requests("GET", "/blobs/")} == {digest}


def test_manifest_without_its_file_is_refused_in_words(machine: Machine, weights: bytes) -> None:
    here = machine()
    manifest = model_of(here, weights)
    manifest["layers"][0]["size"] += 1

    with pytest.raises(OllamaError, match=r"400: .*MANIFEST_INVALID"):
        here.push(NAME, manifest)


# ------------------------------------------------------------------ who may not


def test_model_of_another_is_not_there(machine: Machine, make_model: MakeModel, bob: User) -> None:
    make_model("bob/secret:latest", bob)

    with pytest.raises(OllamaError, match="pull model manifest: file does not exist"):
        machine().pull("bob/secret:latest")


def test_nobody_pushes_to_the_namespace_of_another(
    machine: Machine, weights: bytes, bob: User
) -> None:
    here = machine()

    with pytest.raises(OllamaError, match="DENIED"):
        here.push("bob/model:latest", model_of(here, weights))
    assert here.requests("PATCH") == []


def test_key_that_nobody_has_registered_gets_no_token(machine: Machine, model: str) -> None:
    stranger = machine(key=OllamaKey())

    with pytest.raises(OllamaError, match=r"401: .*UNAUTHORIZED"):
        stranger.pull(f"library/{model}")
    assert [it.status for it in stranger.sent] == [401, 401]


def test_signed_address_opens_nothing_else(machine: Machine, weights: bytes) -> None:
    here, there = machine(), machine()
    manifest = model_of(here, weights)
    here.push(NAME, manifest)
    there.pull(NAME)
    part = next(it for it in there.sent if "range" in it.headers)
    other = next(file["digest"] for file in manifest["layers"] if file["digest"] not in part.url)
    mine = part.url.partition("blobs/")[2].partition("?")[0]

    for url in (part.url.replace(mine, other), part.url.partition("?")[0]):
        assert there._send("GET", url, {}).status == 401
    assert hashlib.sha256(there._send("GET", part.url, {}).body).hexdigest() == mine[7:]
