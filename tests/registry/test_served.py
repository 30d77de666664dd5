"""Models made from one that an engine elsewhere serves, and what lists and pages tell of such."""

import re
from typing import Any

import ollama
import pytest
from django.test import Client

from inference.assembly import engine_message
from inference.messages import ChatMessage, ChatPrompt, Generate, Priority
from inference.requests import Caller, ChatRequest
from models_app import upstreams
from models_app.errors import ModelNotFound
from models_app.keys import create_key
from models_app.models import LanguageModel, ServedModel, User
from models_app.permissions import Verb
from models_app.upstreams import UpstreamSettings
from registry import library
from registry.create_request import CreateRequest, create
from registry.digest import Digest
from registry.errors import InvalidCreate, ServedElsewhere
from registry.library import ResolvedModel
from registry.progress import ignore
from registry.upstreams import NewServed, add_upstream, serve_model
from tests.conftest import MakeModel, principal_for
from tests.models_app.admin_pages import browser_of, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def big(db: None) -> None:
    """A model of an engine, in the library."""
    add_upstream(None, "gpu", UpstreamSettings(url="http://127.0.0.1:9/v1", kind="vllm"))
    can = ("completion", "tools", "vision")
    serve_model(
        None,
        NewServed(
            upstream="gpu", model="org/big", name="big", capabilities=can, context_length=4321
        ),
    )


def create_as(user: User, name: str = "mine", base: str = "big", **asked: Any) -> ResolvedModel:
    principal = principal_for(user)
    stored = create(principal, CreateRequest(name=name, base_name=base, **asked), ignore)
    return library.resolve(principal, stored, Verb.USE)


def asked_of_engine(user: User, model: ResolvedModel, **options: Any) -> Generate:
    request = ChatRequest(
        model=model.name, messages=(ChatMessage(role="user", content="Hi"),), options=options
    )
    caller = Caller(principal=principal_for(user), priority=Priority.API)
    message = engine_message("r", caller, model, request)
    assert isinstance(message, Generate)
    return message


# ---------------------------------------------------------------- made from one


def test_words_and_parameters_are_put_on_top_and_reach_the_engine(alice: User) -> None:
    mine = create_as(
        alice,
        system="Be terse.",
        parameters={"temperature": 0.5, "stop": ["x"]},
        messages=(("user", "1?"), ("assistant", "2.")),
        license=("MIT",),
    )
    assert (mine.parent_model, mine.license) == ("big:latest", ("MIT",))
    assert mine.capabilities == ("completion", "tools", "vision")
    asked = asked_of_engine(alice, mine, top_p=0.9)
    assert asked.model.upstream is not None
    assert (asked.model.upstream.name, asked.model.upstream.model) == ("gpu", "org/big")
    assert isinstance(asked.prompt, ChatPrompt)
    texts = [(message.role, message.content) for message in asked.prompt.messages]
    assert texts == [
        ("system", "Be terse."),
        ("user", "1?"),
        ("assistant", "2."),
        ("user", "Hi"),
    ]
    assert set(asked.asked_options) == {"temperature", "stop", "top_p"}
    assert (asked.sampling.temperature, asked.sampling.stop) == (0.5, ("x",))
    assert asked.runner.num_ctx == 4321


def test_what_is_made_from_such_a_one_keeps_its_texts_and_adds_its_own(alice: User) -> None:
    create_as(alice, system="Be terse.", parameters={"top_k": 3}, license=("MIT",))
    second = create_as(alice, "second", "mine", parameters={"seed": 1}, license=("BSD",))
    assert second.system == "Be terse."
    assert second.parameters == {"top_k": 3, "seed": 1}
    assert second.license == ("MIT", "BSD")
    assert create_as(alice, "second", "second", system="New.").system == "New."
    library.delete_model(principal_for(alice), "mine")
    assert library.resolve(principal_for(alice), "second", Verb.USE).system == "New."


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"adapters": {"a.gguf": Digest("0" * 64)}}, "ADAPTER"),
        ({"quantize": "q8_0"}, "quantizing"),
        ({"template": "{{ .Prompt }}"}, "TEMPLATE"),
        ({"renderer": "qwen3"}, "RENDERER"),
        ({"parser": "qwen3"}, "PARSER"),
    ],
)
def test_what_needs_the_weights_or_the_template_is_refused(
    alice: User, asked: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models_app.selectors.may_use_blob", lambda *_: True)
    with pytest.raises(InvalidCreate, match=f"served by another engine.*{word} is not possible"):
        create_as(alice, **asked)
    assert LanguageModel.objects.count() == 1


def test_each_of_them_is_sealed_anew_and_given_to_nobody(alice: User) -> None:
    first, second = create_as(alice, "one", system="a"), create_as(alice, "two", system="a")
    assert first.digest != second.digest
    assert ServedModel.objects.count() == 3
    with pytest.raises(ServedElsewhere):
        library.stored_manifest(principal_for(alice), "one")


def test_who_may_not_copy_a_served_model_makes_nothing_of_it(alice: User, mallory: User) -> None:
    create_as(alice, system="My secret words.")
    with pytest.raises(ModelNotFound):
        create_as(mallory, "theirs", "alice/mine")


def test_nothing_is_made_of_a_model_whose_engine_is_gone(alice: User) -> None:
    upstreams.remove("gpu", by=None)
    with pytest.raises(InvalidCreate, match="was removed"):
        create_as(alice, system="a")
    assert LanguageModel.objects.count() == 1


def test_a_model_with_files_makes_way_for_one_without_and_back(
    alice: User, make_model: MakeModel
) -> None:
    make_model("tiny", system="Local.")
    assert create_as(alice, "mine", "tiny").serving is None
    assert create_as(alice, "mine", "big").serving is not None
    assert create_as(alice, "mine", "tiny").serving is None
    assert ServedModel.objects.count() == 1


# ---------------------------------------------------------------- what is told


def test_clients_are_told_of_it_in_types_that_they_know(admin: User, make_model: MakeModel) -> None:
    make_model("tiny")
    create_as(admin, "mine", system="Be terse.", parameters={"top_k": 3})
    client = Client(headers={"authorization": f"Bearer {create_key(admin, 'laptop')[1]}"})
    listed = ollama.ListResponse.model_validate(client.get("/api/tags").json())
    sizes = {model.model: int(model.size or 0) for model in listed.models}
    assert sizes.pop("tiny:latest") > 0
    assert sizes == {"big:latest": 0, "mine:latest": 0}
    shown = client.post("/api/show", {"model": "mine"}, "application/json").json()
    told = ollama.ShowResponse.model_validate(shown)
    assert told.capabilities == ["completion", "tools", "vision"]
    assert told.details is not None
    assert (told.details.parent_model, told.details.format) == ("big:latest", "upstream")
    assert told.modelinfo == {"general.architecture": "vllm", "vllm.context_length": 4321}
    assert told.parameters is not None
    assert told.parameters.split() == ["top_k", "3"]
    assert shown["system"] == "Be terse."
    assert "SYSTEM Be terse." in shown["modelfile"]


def test_the_page_says_which_engine_has_it_and_speaks_of_no_files(admin: User) -> None:
    create_as(admin, "mine", system="Be terse.")
    browser = browser_of(admin)
    page = text_of(browser.get("/models/mine:latest"))
    for words in ("Served by", "gpu", "vLLM", "org/big", "4,321 tokens", "Be terse.", "big:latest"):
        assert words in page
    for words in ("GGUF", "Layers", "Memory", " B ", "127.0.0.1"):
        assert words not in page
    upstreams.note_look("gpu", upstreams.Look(problem="no connection"))
    assert "It does not answer" in text_of(browser.get("/models/big:latest"))
    upstreams.remove("gpu", by=None)
    assert "It was removed from this site" in text_of(browser.get("/models/big:latest"))
    assert re.search(r"Size</dt>\s*<dd>\s*–", text_of(browser.get("/models")))
