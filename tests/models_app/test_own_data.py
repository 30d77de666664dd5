"""Export and deletion of one's own data: all of it, and nobody else's."""

import asyncio
import itertools
import json
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from models_app import own_data
from models_app.api.own_data import ExportView
from models_app.audit_log import AuditQuestion, find_entries, verify
from models_app.client_keys import add_client_key
from models_app.errors import AccessEnded
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import (
    LanguageModel,
    LedgerEntry,
    LedgerHour,
    Outcome,
    StoredResponse,
    User,
)
from models_app.permissions import Scope
from models_app.principals import holder_of_key
from models_app.responses import ResponseRecord, keep_response
from ollamasite.errors import Conflict
from tests.conftest import PASSWORD, MakeModel, principal_for
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.ollama_key import OllamaKey

pytestmark = pytest.mark.django_db(transaction=True)

SECRET_WORDS = "between Alice and the model"
CSRF = "a" * 32


def count_use(user: User) -> None:
    """Note one request of a user, and its hour."""
    now = timezone.now()
    named: dict[str, Any] = {
        "user_id": user.pk,
        "user_name": user.username,
        "key_name": f"key of {user.username}",
        "model_name": "m",
        "tokens_in": 7,
    }
    LedgerEntry.objects.create(
        request_id=f"r{user.pk}", began_at=now, ended_at=now, outcome=Outcome.DONE, **named
    )
    LedgerHour.objects.create(hour=now, requests=1, **named)


@pytest.fixture
def life(alice: User, bob: User, make_model: MakeModel) -> None:
    """What Alice and Bob have done here."""
    for user in (alice, bob):
        principal = principal_for(user)
        create_key(user, f"laptop of {user.username}")
        add_client_key(user, OllamaKey().line, f"ollama of {user.username}")
        make_model(f"{user.username}/own", user)
        words = f"{SECRET_WORDS}, {user.username}"
        text = json.dumps([{"text": words}])
        body = json.dumps({"output": words})
        record = ResponseRecord(
            response_id=f"resp_{user.username}", model_name="m", input=text, body=body
        )
        keep_response(principal, record)
        count_use(user)


def exported(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(own_data.export(name)))
    return found


def session_of(user: User, *, csrf: str = CSRF) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    key = client.cookies["ollamasite_session"].value
    return {"cookie": f"ollamasite_session={key}; csrftoken={CSRF}", "x-csrftoken": csrf}


# ------------------------------------------------------------------ export
def test_export_has_everything_of_oneself(life: None, alice: User) -> None:
    found = exported("alice")
    assert found["account"][0]["username"] == "alice"
    assert [key["name"] for key in found["keys"]] == ["laptop of alice"]
    assert [key["name"] for key in found["client_keys"]] == ["ollama of alice"]
    assert [model["model_name"] for model in found["models"]] == ["own"]
    assert [answer["input"] for answer in found["responses"]] == [
        [{"text": f"{SECRET_WORDS}, alice"}]
    ]
    assert found["requests"][0]["tokens_in"] == found["hours"][0]["tokens_in"] == 7


def test_export_has_nothing_of_others_and_no_secret(life: None, alice: User) -> None:
    text = json.dumps(exported("alice"))
    assert "bob" not in text
    assert "pbkdf2" not in text
    assert alice.password not in text
    assert all(key.secret_hash not in text for key in alice.api_keys.all())


def test_export_goes_on_behind_the_first_rows(
    life: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "_RESPONSES_BATCH", 2)
    monkeypatch.setattr(own_data, "_PIECE_BYTES", 50)
    for number in range(5):
        record = ResponseRecord(response_id=f"more{number}", model_name="m", input="[]", body="{}")
        keep_response(principal_for(alice), record)
    assert len(exported("alice")["responses"]) == 6


def test_export_of_requests_and_hours_has_each_once_however_many_begin_at_once(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "_BATCH", 3)
    now = timezone.now()
    for number in range(10):
        at = now + timedelta(hours=number // 4)
        common: dict[str, Any] = {"user_id": alice.pk, "model_name": f"m{number}"}
        LedgerEntry.objects.create(
            request_id=f"r{9 - number}", began_at=at, ended_at=at, outcome=Outcome.DONE, **common
        )
        LedgerHour.objects.create(hour=at, **common)
    found = exported("alice")

    assert [row["model_name"] for row in found["requests"]] == [f"m{n}" for n in range(10)]
    assert [row["model_name"] for row in found["hours"]] == [f"m{n}" for n in range(10)]


async def ask_export(headers: dict[str, str]) -> Answer:
    return await AsgiClient(headers).get("/api/me/export")


async def test_export_is_for_ones_session_and_for_ones_key(life: None, alice: User) -> None:
    _, secret = await sync_to_async(create_key)(alice, "all")
    by_session = await ask_export(await sync_to_async(session_of)(alice))
    by_key = await ask_export({"authorization": f"Bearer {secret}"})
    for answer in (by_session, by_key):
        assert answer.status == 200
        assert answer.json()["account"][0]["username"] == "alice"
        assert answer.headers["content-disposition"] == 'attachment; filename="alice.json"'
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("scope", [Scope.READ, Scope.USE, Scope.WRITE])
async def test_key_with_scopes_exports_nothing(life: None, alice: User, scope: Scope) -> None:
    rules = KeyRules(scopes=(scope,))
    _, secret = await sync_to_async(create_key)(alice, "scoped", rules)
    assert (await ask_export({"authorization": f"Bearer {secret}"})).status == 403


@pytest.mark.parametrize("scopes", [(), (Scope.ADMIN,)])
@pytest.mark.parametrize("networks", [(), ("0.0.0.0/0", "::/0")])
async def test_key_with_limits_exports_nothing(
    life: None, alice: User, scopes: tuple[Scope, ...], networks: tuple[str, ...]
) -> None:
    rules = KeyRules(scopes=scopes, networks=networks)
    _, secret = await sync_to_async(create_key)(alice, "limited", rules)
    is_limited = bool(scopes or networks)
    answer = await ask_export({"authorization": f"Bearer {secret}"})
    assert answer.status == (403 if is_limited else 200)


async def test_export_ends_with_the_key(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "export", lambda _name: itertools.repeat(b"endless "))
    key, _ = await sync_to_async(create_key)(alice, "all")
    holder = await sync_to_async(holder_of_key)(key.pk)
    assert holder is not None
    answer = await ExportView().get(SimpleNamespace(user=holder.principal))
    await sync_to_async(revoke_key)(key)
    async with asyncio.timeout(60):
        with pytest.raises(AccessEnded):  # what has been sent is no whole document
            async for _ in answer:
                pass


# ------------------------------------------------------------------ deletion
def test_forgotten_person_is_gone_and_others_stay(life: None, alice: User, bob: User) -> None:
    own_data.forget("alice", by=principal_for(alice))

    assert not User.objects.filter(username="alice").exists()
    assert not LanguageModel.objects.filter(namespace="alice").exists()
    assert list(StoredResponse.objects.values_list("response_id", flat=True)) == ["resp_bob"]
    assert LanguageModel.objects.filter(namespace="bob").exists()
    assert exported("bob")["responses"]


def test_what_was_counted_stays_without_the_name(life: None, alice: User) -> None:
    own_data.forget("alice", by=None)

    for table in (LedgerEntry, LedgerHour):
        row = table.objects.get(user_id=alice.pk)
        assert (row.user_name, row.key_name, row.tokens_in) == (f"deleted-{alice.pk}", "", 7)
        assert table.objects.filter(user_name="bob", key_name="key of bob").exists()


def test_audit_stays_as_it_is(life: None, alice: User) -> None:
    own_data.forget("alice", by=principal_for(alice))

    [deleted] = find_entries(AuditQuestion(action="user.delete"), limit=5)
    assert (deleted.actor, deleted.subject) == ("alice", "alice")
    assert verify().fault == ""


def test_last_administrator_cannot_be_forgotten(admin: User) -> None:
    with pytest.raises(Conflict):
        own_data.forget(admin.username, by=principal_for(admin))
    assert User.objects.filter(pk=admin.pk).exists()


async def ask_delete(headers: dict[str, str], password: str) -> int:
    answer = await AsgiClient(headers).post("/api/me/delete", {"password": password})
    return answer.status


async def test_deleting_oneself_wants_a_session_and_the_password(life: None, alice: User) -> None:
    headers = await sync_to_async(session_of)(alice)
    _, secret = await sync_to_async(create_key)(alice, "all")

    assert await ask_delete({"authorization": f"Bearer {secret}"}, PASSWORD) == 403
    assert await ask_delete(headers | {"x-csrftoken": "b" * 32}, PASSWORD) == 401
    assert await ask_delete(headers, "wrong") == 403
    assert await User.objects.filter(pk=alice.pk).aexists()
    assert await ask_delete(headers, PASSWORD) == 204
    assert not await User.objects.filter(pk=alice.pk).aexists()
    assert (await ask_export(headers)).status == 401


async def test_password_of_a_left_browser_cannot_be_guessed(
    life: None, alice: User, settings: Any
) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    headers = await sync_to_async(session_of)(alice)
    assert [await ask_delete(headers, f"wrong {n}") for n in range(3)] == [403, 429, 429]
    assert await ask_delete(headers, PASSWORD) == 429
    answer = await AsgiClient(headers).post("/api/me/delete", {"password": PASSWORD})
    assert answer.json()["error"].startswith("too many attempts")
    assert answer.headers["retry-after"] == "600"


async def test_deleting_oneself_works_for_no_last_administrator(admin: User) -> None:
    headers = await sync_to_async(session_of)(admin)
    assert await ask_delete(headers, PASSWORD) == 409


# ------------------------------------------------------------------ the command
def test_command_exports_and_deletes(life: None, alice: User) -> None:
    out = StringIO()
    call_command("personal_data", "export", "alice", stdout=out)
    assert json.loads(out.getvalue())["account"][0]["username"] == "alice"
    assert [r.subject for r in find_entries(AuditQuestion(action="user.export"), limit=5)] == [
        "alice"
    ]
    with pytest.raises(CommandError, match="--yes"):
        call_command("personal_data", "delete", "alice")
    call_command("personal_data", "delete", "alice", "--yes", stderr=StringIO())
    with pytest.raises(CommandError):
        call_command("personal_data", "export", "alice")
