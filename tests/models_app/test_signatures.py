"""Requests that an `ollama` CLI has signed, through the whole stack: whose they are, when not."""

import asyncio
import base64
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from models_app.auth import Credentials, credentials_of_headers, principal_of_scope
from models_app.client_keys import add_client_key
from models_app.models import ClientKey, UsedSignature, User
from models_app.signatures import parse_signature
from ollamasite.errors import Unauthenticated
from tests.conftest import MakeModel
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.ollama_key import OllamaKey

UNKNOWN_BODY = {"error": "unauthorized"}
DELETED = {"model": "nothing"}


@pytest.fixture
def key(transactional_db: None, alice: User) -> OllamaKey:
    """A key that is registered as Alice's."""
    made = OllamaKey()
    add_client_key(alice, made.line)
    return made


async def send(method: str, path: str, authorization: str, **kwargs: Any) -> Answer:
    client = AsgiClient({"authorization": authorization})
    return await client.request(method, path, **kwargs)


async def signed(key: OllamaKey, method: str, path: str, **kwargs: Any) -> Answer:
    return await send(method, *key.request(method, path), **kwargs)


async def test_signed_request_is_the_owners(key: OllamaKey, make_private: None) -> None:
    answer = await signed(key, "GET", "/api/tags")

    assert [model["name"] for model in answer.json()["models"]] == ["alice/mine:latest"]


@pytest.fixture
def make_private(transactional_db: None, alice: User, make_model: MakeModel) -> None:
    make_model("alice/mine", alice)


async def test_body_is_read_as_of_any_other_request(key: OllamaKey) -> None:
    answer = await signed(key, "DELETE", "/api/delete", data=DELETED)

    assert answer.json() == {"error": "model 'nothing' not found"}


async def test_raw_upload_may_be_signed(key: OllamaKey) -> None:
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    statuses = [
        (await signed(key, "HEAD", f"/api/blobs/{digest}")).status,
        (await signed(key, "POST", f"/api/blobs/{digest}", body=b"hello")).status,
        (await signed(key, "HEAD", f"/api/blobs/{digest}")).status,
    ]

    assert statuses == [404, 201, 200]


async def test_reading_may_be_repeated(key: OllamaKey) -> None:
    path, authorization = key.request("GET", "/api/tags")
    answers = [await send("GET", path, authorization) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert await UsedSignature.objects.acount() == 0


async def test_writing_is_accepted_once(key: OllamaKey) -> None:
    path, authorization = key.request("DELETE", "/api/delete")
    answers = [await send("DELETE", path, authorization, data=DELETED) for _ in range(3)]

    assert [answer.status for answer in answers] == [404, 401, 401]
    assert "this signed request has been used" in answers[1].text


async def test_of_two_at_once_one_is_accepted(key: OllamaKey) -> None:
    path, authorization = key.request("DELETE", "/api/delete")
    sent = [send("DELETE", path, authorization, data=DELETED) for _ in range(4)]
    answers = await asyncio.gather(*sent)

    assert sorted(answer.status for answer in answers) == [401, 401, 401, 404]


async def test_other_form_of_a_used_signature_is_used_too(key: OllamaKey) -> None:
    path, authorization = key.request("DELETE", "/api/delete")
    await send("DELETE", path, authorization, data=DELETED)
    half, _, signature = authorization.partition(":")
    # The last character before the padding has bits that say nothing.
    other = f"{half}:{signature[:-3]}{chr(ord(signature[-3]) + 1)}=="
    assert base64.b64decode(other.partition(":")[2]) == base64.b64decode(signature)

    assert (await send("DELETE", path, other, data=DELETED)).status == 401


async def test_upload_is_accepted_once(key: OllamaKey) -> None:
    path, authorization = key.request("POST", f"/api/blobs/sha256:{'0' * 64}")
    answers = [await send("POST", path, authorization, body=b"x") for _ in range(2)]

    assert [answer.status for answer in answers] == [400, 401]


async def test_signatures_that_can_no_longer_be_sent_are_forgotten(key: OllamaKey) -> None:
    long_ago = timezone.now() - timedelta(minutes=16)
    await UsedSignature.objects.acreate(digest="old", used_at=long_ago)
    await signed(key, "DELETE", "/api/delete", data=DELETED)

    assert await UsedSignature.objects.filter(digest="old").acount() == 0
    assert await UsedSignature.objects.acount() == 1


@pytest.mark.parametrize("late_s", [-290, 0, 290])
async def test_time_within_five_minutes_will_do(key: OllamaKey, late_s: int) -> None:
    path, authorization = key.request("GET", "/api/tags", at=time.time() + late_s)

    assert (await send("GET", path, authorization)).status == 200


@pytest.mark.parametrize("late_s", [-310, 310, -10_000_000, 10_000_000_000])
async def test_other_times_are_nobodys(key: OllamaKey, late_s: int) -> None:
    path, authorization = key.request("GET", "/api/tags", at=time.time() + late_s)
    answer = await send("GET", path, authorization)

    assert (answer.status, answer.json()) == (401, UNKNOWN_BODY)


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("", ""),
        ("ts=", "ts="),
        ("ts=now", "ts=now"),
        ("ts={now}.5", "ts={now}.5"),
        ("ts={now}&ts={now}", "ts={now}&ts={now}"),
        ("ts={now}", "ts={now}&x=1"),
        ("ts={now}&x=1", "ts={now}"),
        ("x=1&ts={now}", "ts={now}&x=1"),
        ("ts={now}", "ts=0{now}"),
        ("ts=" + "9" * 5000, "ts=" + "9" * 5000),
        ("ts=\u0661", "ts=%D9%A1"),
        ("ts={now}" + "&a" * 200, "ts={now}" + "&a" * 200),
    ],
)
async def test_query_is_signed_as_it_is_sent_with_one_time(
    key: OllamaKey, query: str, sent: str
) -> None:
    now = int(time.time())
    authorization = key.sign(f"GET,/api/tags?{query.format(now=now)}")
    answer = await send("GET", f"/api/tags?{sent.format(now=now)}", authorization)

    assert (answer.status, answer.json()) == (401, UNKNOWN_BODY)


async def test_further_fields_of_the_query_are_signed_too(key: OllamaKey) -> None:
    asked = f"/api/tags?a=%20b&ts={int(time.time())}&c"

    assert (await send("GET", asked, key.sign(f"GET,{asked}"))).status == 200


async def test_other_method_or_path_is_nobodys(key: OllamaKey) -> None:
    path, authorization = key.request("GET", "/api/tags")
    other_path = path.replace("tags", "ps")

    assert (await send("HEAD", path, authorization)).status == 401
    assert (await send("GET", other_path, authorization)).status == 401


async def test_one_text_does_not_stand_for_two_requests(key: OllamaKey) -> None:
    now = int(time.time())
    authorization = key.sign(f"GET,/api/tags?x?ts={now}")
    # As a server hands on `/api/tags%3Fx`.
    client = ChangedClient({"path": "/api/tags?x"}, {"authorization": authorization})

    assert (await client.get(f"/?ts={now}")).status == 401


class ChangedClient(AsgiClient):
    """Sends what its base cannot spell."""

    def __init__(self, changes: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(headers)
        application: Any = self._application

        async def changed(scope: Any, receive: Any, send: Any) -> None:
            added = changes.get("headers", [])
            whole = {**scope, **changes, "headers": [*scope["headers"], *added]}
            await application(whole, receive, send)

        self._application: Any = changed


async def test_key_of_nobody_is_nobody(key: OllamaKey) -> None:
    answer = await signed(OllamaKey(), "GET", "/api/tags")

    assert (answer.status, answer.json()) == (401, UNKNOWN_BODY)


async def test_key_of_one_beside_the_signature_of_another_is_nobody(
    key: OllamaKey, bob: User
) -> None:
    others = OllamaKey()
    await ClientKey.objects.acreate(owner=bob, name="x", public_key="x", fingerprint="x")
    path, authorization = others.request("GET", "/api/tags")
    forged = f"{key.blob}:{authorization.partition(':')[2]}"

    assert (await send("GET", path, forged)).status == 401


async def test_removed_key_is_nobody(key: OllamaKey) -> None:
    await ClientKey.objects.all().adelete()

    assert (await signed(key, "GET", "/api/tags")).status == 401


async def test_key_of_one_who_left_is_nobody(key: OllamaKey, alice: User) -> None:
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)

    assert (await signed(key, "GET", "/api/tags")).status == 401


async def test_use_is_noted_once_a_minute(key: OllamaKey) -> None:
    await signed(key, "GET", "/api/tags")
    first = (await ClientKey.objects.aget()).last_used_at
    await signed(key, "GET", "/api/ps")

    assert first is not None
    assert (await ClientKey.objects.aget()).last_used_at == first


async def test_signature_is_no_way_to_register_keys(key: OllamaKey) -> None:
    answer = await signed(key, "GET", "/client-keys")

    assert answer.status == 403


@pytest.mark.django_db
def test_signature_beside_a_session_opens_no_websocket(alice: User) -> None:
    """What is signed is an HTTP request; a bad credential is not passed over for a good one."""
    signature = OllamaKey().sign("GET,/ws/chat?ts=1")
    for name, value, is_good in (("x", "y", True), ("authorization", signature, False)):
        scope = {"headers": [(name.encode(), value.encode())], "user": alice}
        if is_good:
            assert principal_of_scope(scope).user_id == alice.pk
        else:
            with pytest.raises(Unauthenticated):
                principal_of_scope(scope)


# ---------------------------------------------------------------- whatever the header says

BASE64 = st.text("ABab09+/=", max_size=100)


@given(st.text(max_size=300) | st.builds("{}:{}".format, BASE64, BASE64))
@example("A" * 68 + ":" + "A" * 86 + "==")
@example(":")
@example("Basic :")
def test_no_header_crashes_the_reader(text: str) -> None:
    credentials = credentials_of_headers({"authorization": text})

    assert isinstance(credentials, Credentials)
    assert parse_signature(text) is None or len(parse_signature(text).signature) == 64  # type: ignore[union-attr]


def test_half_a_signature_beside_a_real_key_is_no_signature() -> None:
    key = OllamaKey()
    real = key.sign("x")

    assert parse_signature(real) is not None
    assert [parse_signature(text) for text in (real[:-1], real[1:], f" {real}", f"{real}\n")] == (
        [None] * 4
    )


async def test_bytes_that_are_no_utf8_are_a_401(transactional_db: None) -> None:
    client = ChangedClient({"headers": [(b"authorization", b"\xff\xfe:\x80")]}, {})

    assert (await client.get("/api/tags")).status == 401
    assert (await client.post("/api/blobs/sha256:x")).status == 401


async def test_query_that_is_no_utf8_is_a_400(key: OllamaKey) -> None:
    client = ChangedClient({"query_string": b"ts=\xff"}, {"authorization": key.sign("x")})

    assert (await client.get("/api/tags")).status == 400
    assert (await client.post("/api/blobs/sha256:x")).status == 400
