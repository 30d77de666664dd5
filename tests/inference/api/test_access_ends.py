"""What is open ends within a second when its caller's access does, in the words of its dialect.

How soon that is depends on how often is looked, and on how busy the machine is. Nothing else would
end what these tests hold open.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.utils import timezone

from inference.messages import Cancel, Embed, Generate
from models_app import access_watch, jobs
from models_app.client_keys import add_client_key
from models_app.jobs import JobKind, JobRecord, NewJob
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, ClientKey, Membership, Team, User
from models_app.permissions import CredentialKind, TeamRole, Verb
from models_app.principals import principal_of_user
from models_app.registry_tokens import issue_token
from registry import library
from registry.create import CreateModel, create_model
from tests.conftest import principal_for
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient, Call
from tests.fakes.ollama_key import OllamaKey
from tests.fakes.websocket import Socket

HELLO = [{"role": "user", "content": "Hello"}]
ENDED = "unauthorized: access has ended"
LOOK_EVERY_S = access_watch.LOOK_EVERY_S
DIGEST = f"sha256:{'0' * 64}"

Act = Callable[[], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty tests wait for the next look, and none is about how often there is one."""
    monkeypatch.setattr(access_watch, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def held(node: FakeNode) -> FakeNode:
    """An engine that begins answers and does not end them."""
    node.default = Script(pieces=("first",), is_held=True)
    return node


@pytest.fixture
def keyed(transactional_db: None, alice: User) -> tuple[ApiKey, AsgiClient]:
    """A key of Alice's and a client with it."""
    key, secret = create_key(alice, "test key")
    return key, AsgiClient({"authorization": f"Bearer {secret}"})


async def ends(call: Call, act: Act) -> bool:
    """Do something that ends a call's access; return whether the call was open, and is over."""
    was_open = not call.task.done()
    await act()
    await call.answer()
    return was_open


def test_looks_are_often_enough_for_a_second() -> None:
    assert LOOK_EVERY_S <= 0.4


async def test_nothing_ends_while_access_lasts(held: FakeNode, model: str, api: AsgiClient) -> None:
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("first")
    await asyncio.sleep(0.3)  # some looks

    assert not call.task.done()
    await call.leave()


STREAMS: list[tuple[str, dict[str, Any], str]] = [
    ("/api/generate", {"prompt": "x"}, f'{{"error":"{ENDED}"}}\n'),
    ("/api/chat", {"messages": HELLO}, f'{{"error":"{ENDED}"}}\n'),
    ("/v1/chat/completions", {"messages": HELLO, "stream": True}, '"authentication_error"'),
    (
        "/v1/messages",
        {"messages": HELLO, "stream": True, "max_tokens": 9},
        '"authentication_error"',
    ),
    ("/v1/responses", {"input": "x", "stream": True}, "response.failed"),
]


@pytest.mark.parametrize(("path", "body", "words"), STREAMS)
async def test_stream_ends_in_words_when_its_key_is_revoked(
    held: FakeNode,
    model: str,
    keyed: tuple[ApiKey, AsgiClient],
    path: str,
    body: dict[str, Any],
    words: str,
) -> None:
    key, api = keyed
    call = api.open("POST", path, data={"model": model, **body})
    await call.wait_for_text("first")

    assert await ends(call, lambda: sync_to_async(revoke_key)(key))
    assert words in b"".join(call.chunks).decode()
    await held.wait_for(Cancel)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": HELLO, "stream": False}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
        ("/api/embed", {"input": "x"}),
    ],
)
async def test_answer_that_has_not_begun_becomes_a_401(
    held: FakeNode, model: str, keyed: tuple[ApiKey, AsgiClient], path: str, body: dict[str, Any]
) -> None:
    key, api = keyed
    call = api.open("POST", path, data={"model": model, **body})
    await held.wait_for(Embed if path == "/api/embed" else Generate)
    await sync_to_async(revoke_key)(key)
    answer = await call.answer()

    assert answer.status == 401
    assert ENDED in answer.text
    await held.wait_for(Cancel)


# ------------------------------------------------------------------ what ends access


async def expire(key: ApiKey) -> None:
    await ApiKey.objects.filter(pk=key.pk).aupdate(expires_at=timezone.now())


async def deactivate(key: ApiKey) -> None:
    await User.objects.filter(pk=key.owner_id).aupdate(is_active=False)


async def delete(key: ApiKey) -> None:
    await ApiKey.objects.filter(pk=key.pk).adelete()


@pytest.mark.parametrize("act", [expire, deactivate, delete])
async def test_whatever_ends_a_key_ends_its_streams(
    held: FakeNode,
    model: str,
    keyed: tuple[ApiKey, AsgiClient],
    act: Callable[[ApiKey], Awaitable[None]],
) -> None:
    key, api = keyed
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("first")

    assert await ends(call, lambda: act(key))


def copy_for(user: User, source: str, name: str) -> str:
    principal = principal_of_user(user, CredentialKind.SESSION)
    base = library.resolve(principal, source, Verb.PULL)
    return create_model(CreateModel(name=name, principal=principal, base=base)).short


async def test_leaving_the_team_ends_the_use_of_its_models_alone(
    held: FakeNode, model: str, alice: User
) -> None:
    team = await Team.objects.acreate(name="vision")
    place = await Membership.objects.acreate(team=team, user=alice, role=TeamRole.MAINTAINER)
    _, secret = await sync_to_async(create_key)(alice, "k")
    of_team = await sync_to_async(copy_for)(alice, model, "vision/eye")
    api = AsgiClient({"authorization": f"Bearer {secret}"})
    calls = [
        api.open("POST", "/api/generate", data={"model": name, "prompt": "x"})
        for name in (of_team, model)
    ]
    for call in calls:
        await call.wait_for_text("first")

    assert await ends(calls[0], place.adelete)
    await asyncio.sleep(0.7)
    assert not calls[1].task.done()
    await calls[1].leave()


async def test_leaving_the_keys_team_ends_its_streams(
    held: FakeNode, model: str, alice: User
) -> None:
    team = await Team.objects.acreate(name="vision")
    place = await Membership.objects.acreate(team=team, user=alice, role=TeamRole.MEMBER)
    _, secret = await sync_to_async(create_key)(alice, "k", KeyRules(team="vision"))
    api = AsgiClient({"authorization": f"Bearer {secret}"})
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("first")

    assert await ends(call, place.adelete)


async def test_removing_a_client_key_ends_what_it_has_signed(
    held: FakeNode, model: str, alice: User
) -> None:
    signer = OllamaKey()
    await sync_to_async(add_client_key)(alice, signer.line)
    path, authorization = signer.request("POST", "/api/generate")
    api = AsgiClient({"authorization": authorization})
    call = api.open("POST", path, data={"model": model, "prompt": "x"})
    await call.wait_for_text("first")

    assert await ends(call, ClientKey.objects.all().adelete)


def sign_out(browser: Client, alice: User) -> None:
    del alice
    browser.logout()


def choose_password(browser: Client, alice: User) -> None:
    del browser
    alice.set_password("another long enough password")
    alice.save()


@pytest.mark.parametrize("act", [sign_out, choose_password])
async def test_end_of_a_session_ends_its_streams(
    held: FakeNode, model: str, alice: User, act: Callable[[Client, User], None]
) -> None:
    browser = Client()
    await sync_to_async(browser.force_login)(alice)
    session = browser.cookies["ollamasite_session"].value
    token = "a" * 32
    cookies = f"ollamasite_session={session}; csrftoken={token}"
    api = AsgiClient({"cookie": cookies, "x-csrftoken": token})
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("first")

    assert await ends(call, lambda: sync_to_async(act)(browser, alice))


# ------------------------------------------------------------------ sockets, jobs, files


@pytest.fixture
async def open_socket(transactional_db: None) -> AsyncIterator[Callable[..., Awaitable[Socket]]]:
    opened: list[Socket] = []

    async def make(path: str, secret: str) -> Socket:
        socket = Socket((b"authorization", f"Bearer {secret}".encode()), path=path)
        opened.append(socket)
        assert (await socket.wire.connect(timeout=60))[0]
        return socket

    yield make
    for socket in opened:
        await socket.wire.disconnect(timeout=60)


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/jobs"])
async def test_quiet_socket_is_closed(
    model: str, alice: User, path: str, open_socket: Callable[..., Awaitable[Socket]]
) -> None:
    key, secret = await sync_to_async(create_key)(alice, "k")
    socket = await open_socket(path, secret)
    if path == "/ws/jobs":
        assert (await socket.receive())["jobs"] == []
    await sync_to_async(revoke_key)(key)

    assert await socket.close_code() == 4401


async def test_answers_on_a_socket_end_with_it(
    held: FakeNode, model: str, alice: User, open_socket: Callable[..., Awaitable[Socket]]
) -> None:
    key, secret = await sync_to_async(create_key)(alice, "k")
    socket = await open_socket("/ws/chat", secret)
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    assert (await socket.receive())["text"] == "first"
    await sync_to_async(revoke_key)(key)

    events = [await socket.wire.receive_output(timeout=60) for _ in range(2)]
    assert {event["type"] for event in events} == {"websocket.send", "websocket.close"}
    await held.wait_for(Cancel)


def waiting_job(owner: User) -> JobRecord:
    made = jobs.add_or_share(
        NewJob(
            kind=JobKind.PULL,
            owner_id=owner.pk,
            model_name="tiny:latest",
            share_key="0" * 64,
            arguments="{}",
        ),
        most_queued=99,
    )
    assert made is not None
    return made


async def test_look_at_a_job_ends(alice: User, keyed: tuple[ApiKey, AsgiClient]) -> None:
    key, api = keyed
    job = await sync_to_async(waiting_job)(alice)
    call = api.open("GET", f"/api/jobs/{job.job_id}/events")
    await call.wait_for_start()

    assert await ends(call, lambda: sync_to_async(revoke_key)(key))
    assert (await call.answer()).lines() == [{"error": ENDED}]


async def test_upload_of_a_file_ends(alice: User, keyed: tuple[ApiKey, AsgiClient]) -> None:
    key, api = keyed
    call = api.open("POST", f"/api/blobs/{DIGEST}", body=[b"some of it"], is_whole=False)
    await call.wait_until_body_is_taken()

    assert await ends(call, lambda: sync_to_async(revoke_key)(key))
    assert (await call.answer()).status == 401


async def test_upload_by_registry_token_ends_with_the_key_that_fetched_it(
    alice: User, keyed: tuple[ApiKey, AsgiClient]
) -> None:
    key, _ = keyed
    principal = principal_for(alice)
    by_key = type(principal)(
        **{name: getattr(principal, name) for name in ("user_id", "username", "is_admin", "kind")},
        key_id=key.pk,
    )
    token = await sync_to_async(issue_token)(by_key, ["repository:alice/made:pull,push"])
    api = AsgiClient({"authorization": f"Bearer {token.text}"})
    begun = await api.post("/v2/alice/made/blobs/uploads/")
    assert begun.status == 202
    session = begun.headers["location"].partition("localhost:11434")[2]
    call = api.open("PATCH", session, body=[b"some of it"], is_whole=False)
    await call.wait_until_body_is_taken()

    assert await ends(call, lambda: sync_to_async(revoke_key)(key))
    assert (await call.answer()).status == 401
