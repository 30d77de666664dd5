"""`POST /api/nodes/join` and `GET /api/nodes/blobs/…`: what a node may, and nobody else."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.utils import timezone

from inference.messages import PROTOCOL_VERSION
from models_app import nodes
from models_app.models import AuditEntry, Node, NodeState
from registry.blobs import blob_store
from registry.digest import Digest
from tests.conftest import MakeModel
from tests.fakes.http import AsgiClient

GOOD: dict[str, Any] = {
    "address": "gpu1.example:11500",
    "fingerprint": "ab" * 32,
    "protocol": PROTOCOL_VERSION,
    "memory_bytes": 64_000_000_000,
    "devices": [{"name": "NVIDIA A100", "total_bytes": 80_000_000_000}],
}
JOIN = "/api/nodes/join"


@pytest.fixture
async def token(transactional_db: None) -> str:
    return await sync_to_async(nodes.allow)("gpu1", by=None)


@pytest.fixture
def gpu1(token: str) -> AsgiClient:
    """The node."""
    return AsgiClient({"authorization": f"Bearer {token}"})


@sync_to_async
def row() -> Node:
    return Node.objects.get(name="gpu1")


@sync_to_async
def has_been_silent(time: timedelta) -> None:
    seen = timezone.now() - time - timedelta(seconds=1)
    assert Node.objects.filter(name="gpu1").update(last_seen_at=seen)


async def test_a_node_joins_and_is_told_its_name_and_a_secret(gpu1: AsgiClient) -> None:
    answer = await gpu1.post(JOIN, GOOD)
    assert answer.status == 200
    assert answer.json()["name"] == "gpu1"
    [enrolled] = await sync_to_async(nodes.enrolled)()
    assert enrolled.secret == answer.json()["secret"]
    assert (enrolled.host, enrolled.port) == ("gpu1.example", 11500)
    assert not enrolled.is_cordoned


async def test_joining_again_from_the_same_place_keeps_row_and_secret(gpu1: AsgiClient) -> None:
    first = (await gpu1.post(JOIN, GOOD)).json()
    before = await row()
    assert (await gpu1.post(JOIN, GOOD)).json() == first
    after = await row()
    assert (after.pk, after.joined_at) == (before.pk, before.joined_at)
    assert after.last_seen_at
    assert before.last_seen_at
    assert after.last_seen_at > before.last_seen_at


async def test_who_moves_gets_another_secret(gpu1: AsgiClient) -> None:
    first = (await gpu1.post(JOIN, GOOD)).json()["secret"]
    await has_been_silent(nodes.MOVES_AFTER)
    moved = (await gpu1.post(JOIN, GOOD | {"address": "gpu1.example:11501"})).json()["secret"]
    assert moved != first


async def test_of_two_copies_of_one_machine_the_first_is_the_node(gpu1: AsgiClient) -> None:
    first = (await gpu1.post(JOIN, GOOD)).json()
    joined = await AuditEntry.objects.filter(action="node.join").acount()
    for _ in range(3):
        copy = await gpu1.post(JOIN, GOOD | {"address": "gpu1-copy.example:11500"})
        assert copy.status == 400
        assert "is at gpu1.example:11500 right now" in copy.json()["error"]
        assert (await gpu1.post(JOIN, GOOD)).json() == first
    assert await AuditEntry.objects.filter(action="node.join").acount() == joined


async def test_a_clock_that_was_set_back_keeps_no_node_from_moving(gpu1: AsgiClient) -> None:
    await gpu1.post(JOIN, GOOD)
    await has_been_silent(-timedelta(hours=1))
    assert (await gpu1.post(JOIN, GOOD | {"address": "gpu1.example:11501"})).status == 200


async def test_a_stolen_token_puts_no_other_machine_in_the_nodes_place(gpu1: AsgiClient) -> None:
    await gpu1.post(JOIN, GOOD)
    thief = await gpu1.post(JOIN, GOOD | {"address": "evil.example:1", "fingerprint": "cd" * 32})
    assert thief.status == 400
    assert "ollamasite node-token gpu1" in thief.json()["error"]
    [enrolled] = await sync_to_async(nodes.enrolled)()
    assert (enrolled.host, enrolled.fingerprint) == ("gpu1.example", GOOD["fingerprint"])


async def test_a_new_token_is_for_whoever_joins_with_it_and_ends_who_was_there(
    gpu1: AsgiClient,
) -> None:
    first = (await gpu1.post(JOIN, GOOD)).json()["secret"]
    token = await sync_to_async(nodes.allow)("gpu1", by=None)
    assert await sync_to_async(nodes.enrolled)() == []
    new = AsgiClient({"authorization": f"Bearer {token}"})
    answer = await new.post(JOIN, GOOD | {"fingerprint": "cd" * 32})
    assert answer.status == 200
    assert answer.json()["secret"] != first


async def test_neither_token_nor_secret_is_in_the_database(gpu1: AsgiClient, token: str) -> None:
    secret = (await gpu1.post(JOIN, GOOD)).json()["secret"]
    stored = [str(value) for value in vars(await row()).values()]
    audited = [str(vars(entry)) async for entry in AuditEntry.objects.all()]
    for text in stored + audited:
        assert secret not in text
        assert token not in text


async def test_a_new_token_ends_the_old_one(gpu1: AsgiClient) -> None:
    await sync_to_async(nodes.allow)("gpu1", by=None)
    assert (await gpu1.post(JOIN, GOOD)).status == 401


async def test_a_node_that_was_removed_is_nobody(gpu1: AsgiClient) -> None:
    await gpu1.post(JOIN, GOOD)
    assert await sync_to_async(nodes.remove)("gpu1", by=None)
    assert (await gpu1.post(JOIN, GOOD)).status == 401
    assert await sync_to_async(nodes.enrolled)() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "gpu1"},
        {"address": "gpu1:0"},
        {"address": "gpu1:65536"},
        {"address": "gpu1:123456789012345678901234567890"},
        {"address": "user@gpu1:80"},
        {"address": "gpu1/x:80"},
        {"address": "gpu1:80\n"},
        {"address": "a" * 300 + ":80"},
        {"address": "169.254.169.254:80"},
        {"address": "168.63.129.16:80"},
        {"address": "[fe80::1]:80"},
        {"address": "[::ffff:169.254.169.254]:80"},
        {"address": "0.0.0.0:11500"},
        {"address": "[::]:11500"},
        {"address": "224.0.0.1:80"},
        {"address": "[::::]:80"},
        {"address": "٣:80"},
        {"address": "gpu1:٣"},
        {"fingerprint": "AB" * 32},
        {"fingerprint": "ab" * 31},
        {"protocol": PROTOCOL_VERSION - 1},
        {"memory_bytes": -1},
        {"memory_bytes": 2**80},
        {"devices": [{"name": "x"}] * 65},
        {"devices": "none"},
        {"address": 7},
    ],
)
async def test_what_cannot_be_is_refused(gpu1: AsgiClient, wrong: dict[str, Any]) -> None:
    assert (await gpu1.post(JOIN, GOOD | wrong)).status == 400
    assert not (await row()).address


async def test_a_gpu_may_be_called_anything(gpu1: AsgiClient) -> None:
    devices = [{"name": "A\x00 \u202eGPU\n" * 40}]
    assert (await gpu1.post(JOIN, GOOD | {"devices": devices})).status == 200
    [device] = (await row()).devices
    assert device["name"].startswith("A GPUA GPU")
    assert len(device["name"]) == 120


async def test_a_node_gets_nowhere_else(gpu1: AsgiClient) -> None:
    for path in ("/api/tags", "/api/me", "/api/ps", "/v1/models", "/api/limits", "/home"):
        answer = await gpu1.get(path)
        assert answer.status == 403, path
    assert (await gpu1.post("/api/chat", {"model": "x", "messages": []})).status == 403


@pytest.mark.parametrize("token_text", ["osn-" + "0" * 48, "osn-", "osn-" + "é" * 10])
async def test_a_made_up_token_is_nobodys(transactional_db: None, token_text: str) -> None:
    stranger = AsgiClient({"authorization": f"Bearer {token_text}"})
    assert (await stranger.post(JOIN, GOOD)).status == 401


async def test_a_users_key_does_not_join(api: AsgiClient) -> None:
    assert (await api.post(JOIN, GOOD)).status == 403
    assert (await api.get(f"/api/nodes/blobs/sha256:{'0' * 64}")).status == 403


async def test_a_node_reads_a_file_whole_and_from_where_it_was_cut(
    gpu1: AsgiClient, make_model: MakeModel, tiny_gguf: Path
) -> None:
    await sync_to_async(make_model)("tiny")
    data = tiny_gguf.read_bytes()
    path = f"/api/nodes/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    whole = await gpu1.get(path)
    assert (whole.status, whole.body) == (200, data)
    rest = await gpu1.request("GET", path, headers={"range": "bytes=10000-"})
    assert (rest.status, rest.body) == (206, data[10000:])
    assert rest.headers["content-range"] == f"bytes 10000-{len(data) - 1}/{len(data)}"
    beyond = await gpu1.request("GET", path, headers={"range": f"bytes={len(data)}-"})
    assert beyond.status == 416


async def test_a_node_reads_nothing_but_what_models_run_from(
    gpu1: AsgiClient, make_model: MakeModel
) -> None:
    """Neither what one is told to say nor what somebody has sent that is in no model."""
    system = "You keep a secret."
    await sync_to_async(make_model)("tiny", system=system)
    sent = b"not in a model yet"
    await sync_to_async(blob_store().write)([sent])
    for data in (system.encode(), sent):
        digest = Digest.of(data)
        assert await sync_to_async(blob_store().exists)(digest)
        assert (await gpu1.get(f"/api/nodes/blobs/sha256:{digest.hex}")).status == 404


@pytest.mark.parametrize("name", ["0" * 64, "../secret_key", "sha256:" + "g" * 64, "%2e%2e"])
async def test_a_file_that_is_not_there_is_not_there(gpu1: AsgiClient, name: str) -> None:
    assert (await gpu1.get(f"/api/nodes/blobs/{name}")).status in {400, 403, 404}
    assert (await gpu1.get(f"/api/nodes/blobs/sha256:{'0' * 64}")).status == 404


async def test_what_is_wanted_of_a_node_is_recorded(gpu1: AsgiClient) -> None:
    await gpu1.post(JOIN, GOOD)
    assert await sync_to_async(nodes.set_state)("gpu1", NodeState.CORDONED, by=None)
    [enrolled] = await sync_to_async(nodes.enrolled)()
    assert enrolled.is_cordoned
    actions = [entry.action async for entry in AuditEntry.objects.order_by("pk")]
    assert actions == ["node.allow", "node.join", "node.cordoned"]


@pytest.mark.parametrize("name", ["", "local", "GPU1", "a b", "-a", "a" * 41, "é"])
async def test_a_name_that_cannot_be_is_refused(transactional_db: None, name: str) -> None:
    with pytest.raises(ValidationError):
        await sync_to_async(nodes.allow)(name, by=None)
