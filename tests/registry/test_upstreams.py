"""Engines elsewhere: who may add them, what is seen of them, and models that they serve."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from inference.assembly import model_ref
from inference.errors import UpstreamFailed, UpstreamUnreachable
from models_app import revisions, sealed_texts, upstreams
from models_app.errors import InvalidUpstream, ModelNotFound, UpstreamNotFound
from models_app.keys import create_key
from models_app.models import AuditEntry, LanguageModel, ServedModel, Tag, Upstream, User
from models_app.names import ModelName
from models_app.permissions import Verb
from models_app.upstreams import UpstreamSettings
from ollamasite.errors import Forbidden
from registry import library, show
from registry.errors import ServedElsewhere
from registry.upstreams import (
    NewServed,
    add_upstream,
    change_upstream,
    look_in_time,
    look_now,
    serve_model,
)
from tests.conftest import MakeModel, principal_for
from tests.fakes.upstream import Behave, FakeUpstream, answers, fake_upstream
from tests.models_app.admin_pages import HOME, address_of, browser_of, text_of

pytestmark = pytest.mark.django_db

KEY = "sk-very-secret-key"
OFFERS = {"data": [{"id": "org/big", "max_model_len": 32768}, {"id": "other"}]}


@contextmanager
def engine(behave: Behave) -> Iterator[FakeUpstream]:
    """Run a server on a thread of its own."""
    started, stopping = threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def run() -> None:
        async with fake_upstream(behave) as server:
            found.extend([server, asyncio.get_running_loop()])
            started.set()
            await stopping.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait()
    try:
        yield found[0]
    finally:
        found[1].call_soon_threadsafe(stopping.set)
        thread.join()


@pytest.fixture
def gpu() -> None:
    settings = UpstreamSettings(url="http://127.0.0.1:9/v1", kind="vllm", key=KEY)
    add_upstream(None, "gpu", settings)


def serve(name: str = "big", **fields: Any) -> ModelName:
    return serve_model(None, NewServed(upstream="gpu", model="org/big", name=name, **fields))


# ---------------------------------------------------------------- engines


@pytest.mark.usefixtures("gpu")
def test_a_key_is_stored_encrypted_and_told_to_nobody() -> None:
    row = Upstream.objects.get()
    assert KEY not in row.sealed_key
    assert sealed_texts.unseal(row.sealed_key) == KEY
    assert KEY not in repr(upstreams.find("GPU"))
    assert KEY not in str(list(AuditEntry.objects.values()))
    assert AuditEntry.objects.get().action == "upstream.add"


@pytest.mark.usefixtures("gpu")
def test_a_key_goes_to_no_other_address_than_it_was_given_for() -> None:
    with pytest.raises(InvalidUpstream, match="no other address"):
        change_upstream(None, "gpu", UpstreamSettings(url="http://evil.example/v1"))
    change_upstream(None, "gpu", UpstreamSettings(url="http://other/v1", key="new"))
    assert upstreams.find("gpu").key == "new"
    change_upstream(None, "gpu", UpstreamSettings(concurrency=3))
    assert (upstreams.find("gpu").concurrency, upstreams.find("gpu").key) == (3, "new")


def test_only_administrators_say_where_requests_go(alice: User, admin: User) -> None:
    settings = UpstreamSettings(url="http://gpu:8000")
    with pytest.raises(Forbidden):
        add_upstream(principal_for(alice), "gpu", settings)
    add_upstream(principal_for(admin), "gpu", settings)
    assert upstreams.find("gpu").url == "http://gpu:8000/v1"
    for act in (
        lambda by: upstreams.set_enabled("gpu", is_enabled=False, by=by),
        lambda by: upstreams.remove("gpu", by=by),
        lambda by: look_now(by, "gpu"),
        lambda by: serve_model(by, NewServed(upstream="gpu", model="m", name="m")),
    ):
        with pytest.raises(Forbidden):
            act(principal_for(alice))


@pytest.mark.parametrize(
    "given",
    [
        UpstreamSettings(url="ftp://gpu/v1"),
        UpstreamSettings(url="http://user:pass@gpu/v1"),
        UpstreamSettings(url="http://gpu/v1?key=1"),
        UpstreamSettings(url="http://*/v1"),
        UpstreamSettings(url="gpu"),
        UpstreamSettings(),
        UpstreamSettings(url="http://gpu/v1", kind="other"),
        UpstreamSettings(url="http://gpu/v1", concurrency=5000),
        UpstreamSettings(url="http://gpu/v1", concurrency=-1),
        UpstreamSettings(url="http://gpu/v1", first_s=10**9),
        UpstreamSettings(url="http://gpu/v1", key="a\r\nb"),
    ],
)
def test_what_makes_no_sense_is_refused(given: UpstreamSettings) -> None:
    with pytest.raises(InvalidUpstream):
        add_upstream(None, "gpu", given)
    assert not Upstream.objects.exists()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["gpu", "GPU", "", "a/b", "x" * 81])
def test_an_engine_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(InvalidUpstream):
        add_upstream(None, name, UpstreamSettings(url="http://gpu/v1"))
    with pytest.raises(UpstreamNotFound):
        upstreams.find("nobody")


def test_a_look_tells_which_models_an_engine_has() -> None:
    with engine(answers(200, OFFERS)) as server:
        add_upstream(None, "gpu", UpstreamSettings(url=server.ref().url, kind="vllm", key=KEY))
        look = look_now(None, "gpu")
        assert not look.problem
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert upstreams.offers_of("gpu") == [
        {"id": "org/big", "context_length": 32768},
        {"id": "other", "context_length": None},
    ]
    assert upstreams.find("gpu").is_up is True


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (answers(401, {}), "refuses the key"),
        (answers(500, {}), "status 500"),
        (answers(302, {}, "location: http://127.0.0.1:1/"), "status 302"),
        (answers(200, b"<html>"), "something else"),
        (answers(200, {"data": [{"id": 7}]}), "something else"),
        (answers(200, b"x" * (5 * 1024 * 1024)), "larger"),
    ],
)
def test_an_engine_that_does_not_answer_as_it_should_is_down(behave: Behave, problem: str) -> None:
    with engine(behave) as server:
        add_upstream(None, "gpu", UpstreamSettings(url=server.ref().url, kind="vllm"))
        assert problem in look_now(None, "gpu").problem
    assert upstreams.find("gpu").is_up is False
    assert upstreams.down() == ["gpu"]


def test_names_that_no_model_has_are_passed_over() -> None:
    offers = {"data": [{"id": "a\x00b"}, {"id": "\u202eb"}, *OFFERS["data"]]}
    with engine(answers(200, offers)) as server:
        add_upstream(None, "gpu", UpstreamSettings(url=server.ref().url, kind="vllm"))
        look_in_time()
    assert [offer["id"] for offer in upstreams.offers_of("gpu")] == ["org/big", "other"]


@pytest.mark.parametrize("url", ["http://169.254.169.254/v1", "http://168.63.129.16/v1"])
def test_an_address_of_a_clouds_secrets_is_never_asked(url: str) -> None:
    add_upstream(None, "gpu", UpstreamSettings(url=url))
    assert "to which nothing is ever sent" in look_now(None, "gpu").problem


@pytest.mark.usefixtures("gpu")
def test_engines_are_looked_at_in_turn_by_one_process_and_when_they_are_enabled() -> None:
    assert [found.name for found in upstreams.due(9.0)] == ["gpu"]
    assert upstreams.due(9.0) == []
    Upstream.objects.update(checked_at=timezone.now() - timedelta(seconds=10))
    look_in_time()
    assert Upstream.objects.get().is_up is False
    upstreams.set_enabled("gpu", is_enabled=False, by=None)
    assert upstreams.due(9.0) == []
    assert upstreams.down() == []


@pytest.mark.usefixtures("gpu")
def test_engine_is_looked_at_though_the_clock_was_set_back() -> None:
    upstreams.note_look("gpu", upstreams.Look(problem="it was down"))
    Upstream.objects.update(checked_at=timezone.now() + timedelta(hours=1))
    assert upstreams.find("gpu").is_up is None  # and so it is asked
    assert [found.name for found in upstreams.due(9.0)] == ["gpu"]
    assert upstreams.due(9.0) == []


@pytest.mark.usefixtures("gpu")
def test_what_was_seen_at_an_engines_old_address_is_not_told_of_its_new_one() -> None:
    [looked_at] = upstreams.due(9.0)
    change_upstream(None, "gpu", UpstreamSettings(url="http://127.0.0.1:10/v1", key="new"))
    upstreams.note_look("gpu", upstreams.Look(problem="it is down"), url=looked_at.url)
    assert upstreams.find("gpu").is_up is None
    upstreams.remove("gpu", by=None)
    upstreams.note_look("gpu", upstreams.Look(), url=looked_at.url)  # nothing to note it of


def test_a_url_that_no_column_holds_is_refused() -> None:
    with pytest.raises(InvalidUpstream, match="at most 500 characters"):
        add_upstream(None, "gpu", UpstreamSettings(url=f"http://gpu1:8000/{'v' * 500}"))


@pytest.mark.parametrize("name", ["concurrency", "first_s", "silence_s"])
def test_nothing_is_no_number_of_requests_and_no_time(name: str) -> None:
    wrong: dict[str, Any] = {name: 0}
    with pytest.raises(InvalidUpstream):
        add_upstream(None, "gpu", UpstreamSettings(url="http://127.0.0.1:9", **wrong))
    assert not Upstream.objects.exists()


# ---------------------------------------------------------------- models


@pytest.mark.usefixtures("gpu")
def test_a_served_model_is_resolved_listed_and_shown_like_others(alice: User) -> None:
    upstreams.note_look("gpu", upstreams.Look(offers=[{"id": "org/big", "context_length": 999}]))
    serve(capabilities=("completion", "thinking"))
    principal = principal_for(alice)
    model = library.resolve(principal, "big", Verb.USE)
    assert model.capabilities == ("completion", "thinking")
    [listed] = library.list_models(principal)
    assert (listed.name, listed.context_length) == ("big:latest", 999)
    assert listed.capabilities == ("completion", "thinking")
    assert "FROM big:latest" in show.modelfile_text(model, system="", options={})
    assert show.model_info(model, is_verbose=True)["vllm.context_length"] == 999
    ref = model_ref(model).upstream
    assert ref is not None
    assert (ref.name, ref.model, ref.key, ref.kind) == ("gpu", "org/big", KEY, "vllm")


@pytest.mark.usefixtures("gpu")
def test_a_served_model_has_no_files_to_take_away(admin: User) -> None:
    serve()
    principal = principal_for(admin)
    with pytest.raises(ServedElsewhere):
        library.stored_manifest(principal, "big")
    base = library.resolve(principal, "big", Verb.PULL)
    row = LanguageModel.objects.get()
    assert revisions.find_by_tag(row.pk, "latest") is None
    assert revisions.find_by_digest(row.pk, base.digest) is None


@pytest.mark.usefixtures("gpu")
def test_a_copy_and_a_deletion_work_as_for_all_models(admin: User) -> None:
    serve()
    principal = principal_for(admin)
    library.copy_model(principal, "big", "again")
    assert model_ref(library.resolve(principal, "again", Verb.USE)).upstream is not None
    library.delete_model(principal, "big")
    with pytest.raises(ModelNotFound):
        library.resolve(principal, "big", Verb.USE)
    assert ServedModel.objects.count() == 1
    library.delete_model(principal, "again")
    assert not ServedModel.objects.exists()


@pytest.mark.usefixtures("gpu")
def test_a_name_is_served_anew_and_a_model_with_files_is_not_written_over(
    make_model: MakeModel,
) -> None:
    serve()
    serve(context_length=5)
    assert Tag.objects.get().manifest.config["context_length"] == 5
    make_model("tiny")
    with pytest.raises(InvalidUpstream, match="delete it first"):
        serve("tiny")
    with pytest.raises(InvalidUpstream, match="capability"):
        serve("x", capabilities=("flying",))
    with pytest.raises(InvalidUpstream, match="answers or embeds"):
        serve("x", capabilities=("tools",))


@pytest.mark.usefixtures("gpu")
def test_who_asks_for_a_model_whose_engine_is_gone_is_told_at_once(
    alice: User, settings: Settings
) -> None:
    serve()
    model = library.resolve(principal_for(alice), "big", Verb.USE)
    assert model.serving is not None
    for changes, words in (
        ({"is_up": False}, "does not answer"),
        ({"is_enabled": False}, "switched off"),
        ({"name": ""}, "was removed"),
    ):
        changed = replace(model, serving=replace(model.serving, **changes))
        with pytest.raises(UpstreamUnreachable, match=words):
            model_ref(changed)
    upstreams.note_look("gpu", upstreams.Look(problem="no connection"))
    Upstream.objects.update(checked_at=timezone.now() - timedelta(seconds=61))
    assert upstreams.find("gpu").is_up is None  # whoever looks has died: it is tried
    settings.SECRET_KEY = "another one"
    with pytest.raises(UpstreamFailed, match="set its key again"):
        model_ref(library.resolve(principal_for(alice), "big", Verb.USE))
    assert "set it again" in look_now(None, "gpu").problem
    upstreams.remove("gpu", by=None)
    with pytest.raises(UpstreamUnreachable, match="removed"):
        model_ref(library.resolve(principal_for(alice), "big", Verb.USE))


def test_the_commands_add_serve_list_and_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    with engine(answers(200, OFFERS)) as server:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
        url = server.ref().url
        call_command("add_upstream", "gpu", url, "--kind", "vllm", "--key-stdin", stdout=out)
        assert upstreams.find("gpu").key == KEY
        call_command("serve_upstream", "gpu", "org/big", "big", "--can", "completion", stdout=out)
        call_command("upstreams", "--look", "gpu", stdout=out)
    call_command("upstreams", "--disable", "gpu", stdout=out)
    call_command("upstreams", "--remove", "gpu", stdout=out)
    told = out.getvalue()
    assert "it has org/big" in told
    assert "big:latest is served by gpu" in told
    assert "8 at a time  up  serves 1 models" in told
    assert "switched off" in told
    assert KEY not in told


# ---------------------------------------------------------------- pages


def test_an_administrator_adds_asks_and_serves_from_pages(admin: User) -> None:
    browser = browser_of(admin)
    with engine(answers(200, OFFERS)) as server:
        wanted = {
            "name": "gpu",
            "url": server.ref().url,
            "kind": "vllm",
            "key": KEY,
            "concurrency": "4",
            "first_s": "300",
            "silence_s": "60",
        }
        browser.post(address_of("upstream", "add"), wanted)
        row = Upstream.objects.get()
        page = text_of(browser.get(f"{HOME}/upstream/{row.pk}/change/"))
        assert "org/big, other" in page
        assert "up" in page
        assert KEY not in page
        assert row.sealed_key not in page
        assert KEY not in text_of(browser.get(address_of("upstream", "change", row)))
        browser.post(address_of("upstream", "look", row))
    changed = {**wanted, "key": "", "concurrency": "9"}
    browser.post(address_of("upstream", "change", row), changed)
    assert (upstreams.find("gpu").concurrency, upstreams.find("gpu").key) == (9, KEY)
    moved = browser.post(address_of("upstream", "change", row), {**changed, "url": "http://x/v1"})
    assert "no other address" in text_of(moved)
    assert "no connection" in text_of(browser.post(address_of("upstream", "look", row)))
    asked = {"model": "org/big", "name": "big", "capabilities": ["completion", "tools"]}
    browser.post(address_of("upstream", "serve", row), asked)
    assert library.resolve(principal_for(admin), "big", Verb.USE).serving is not None
    assert "big:latest" in text_of(browser.get(f"{HOME}/upstream/{row.pk}/change/"))
    for act in ("disable", "enable", "forget-key"):
        browser.post(address_of("upstream", act, row))
    assert upstreams.find("gpu").key == ""
    browser.post(address_of("upstream", "remove", row))
    assert not Upstream.objects.exists()


@pytest.mark.usefixtures("gpu")
def test_pages_and_routes_tell_of_a_served_model(admin: User) -> None:
    serve(capabilities=("completion", "vision"), context_length=4321)
    browser = browser_of(admin)
    assert "big" in text_of(browser.get("/models"))
    page = text_of(browser.get("/models/big:latest"))
    assert "big" in page
    assert "4,321" in page or "4K" in page or "4321" in page
    client = Client(headers={"authorization": f"Bearer {create_key(admin, 'laptop')[1]}"})
    shown = client.post("/api/show", {"model": "big", "verbose": True}, "application/json")
    assert shown.status_code == 200
    assert shown.json()["capabilities"] == ["completion", "vision"]
    assert shown.json()["model_info"]["vllm.context_length"] == 4321
    [listed] = client.get("/api/tags").json()["models"]
    assert listed["name"] == "big:latest"
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["big:latest"]
