"""A request and a model become one message for the engine, or a refusal in the contract's words."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from inference.assembly import cache_group, default_priority, engine_message, model_ref
from inference.errors import InvalidImage, UnsupportedByModel
from inference.messages import (
    AdapterRef,
    ChatMessage,
    ChatPrompt,
    FillPrompt,
    Generate,
    Load,
    Priority,
    RawPrompt,
    Unload,
)
from inference.requests import ChatRequest, CompletionRequest, GenerationRequest, KeepAlive
from models_app.permissions import CredentialKind, Principal
from ollamasite.errors import ServiceError
from registry.library import ResolvedModel
from registry.manifests import LayerRef, Manifest

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
THINKING = (
    "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}{{ end }}"
)
FILLING = "<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>"
FILL_TOKENS = {f"tokenizer.ggml.fim_{part}_token_id": 1 for part in ("pre", "suf", "mid")}
PERSON = Principal(user_id=7, username="alice", is_admin=False, kind=CredentialKind.SESSION)
PROGRAM = Principal(user_id=7, username="alice", is_admin=False, kind=CredentialKind.KEY)
HELLO = (ChatMessage(role="user", content="Hello"),)
SCHEMA = '{"type":"object"}'


def resolved(**changes: Any) -> ResolvedModel:
    config = LayerRef(mediaType="config", digest="sha256:" + "1" * 64, size=1)
    fields: dict[str, Any] = {
        "manifest": Manifest(config=config, layers=()),
        "weights": "a" * 64,
        "parent_model": "",
        "template": "",
        "system": "",
        "parameters": {},
        "messages": (),
        "license": (),
        "projector": "",
        "adapters": (),
        "gguf": {"architecture": "llama", "metadata": {}},
        "capabilities": ("completion",),
        "name": "tiny:latest",
        "full_name": "registry.ollama.ai/library/tiny:latest",
        "digest": "d" * 64,
        "config": {},
        "modified_at": datetime(2026, 1, 1, tzinfo=UTC),
        "cache_scope": "user",
        "is_pinned": False,
    }
    return ResolvedModel(**(fields | changes))


def told(model: ResolvedModel, request: GenerationRequest) -> Generate:
    message = engine_message("r", PROGRAM, model, request, Priority.API)
    assert isinstance(message, Generate)
    return message


def refusal(model: ResolvedModel, request: GenerationRequest) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        engine_message("r", PROGRAM, model, request, Priority.API)
    return caught.value


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"model": "tiny", "messages": HELLO, **fields})


def complete(**fields: Any) -> CompletionRequest:
    return CompletionRequest(**{"model": "tiny", "prompt": "p", **fields})


# ------------------------------------------------------------------ model and caller


def test_engine_learns_of_projector_adapters_and_pin() -> None:
    ref = model_ref(resolved(projector="b" * 64, adapters=("c" * 64,), is_pinned=True))

    assert (ref.weights, ref.projector) == ("a" * 64, "b" * 64)
    assert ref.adapters == (AdapterRef(digest="c" * 64),)
    assert ref.is_pinned


def test_user_is_charged_and_shares_the_cache_with_nobody() -> None:
    message = told(resolved(), chat())

    assert (message.user, message.weight, message.cache_group) == ("alice", 1.0, "user:7")


def test_cache_of_a_model_may_be_everyones() -> None:
    model = resolved(cache_scope="everyone")

    assert cache_group(PROGRAM, model) == "model:" + "d" * 64


def test_people_go_before_programs() -> None:
    assert default_priority(PERSON) is Priority.INTERACTIVE
    assert default_priority(PROGRAM) is Priority.API


def test_priority_is_passed_on() -> None:
    message = engine_message("r", PROGRAM, resolved(), chat(), Priority.BATCH)

    assert isinstance(message, Generate)
    assert message.priority is Priority.BATCH


# ------------------------------------------------------------------ prompts


def test_what_comes_from_the_manifest_is_marked_as_the_models_own() -> None:
    model = resolved(system="Be brief.", messages=(("user", "Hi"), ("assistant", "Ho")))
    prompt = told(model, chat()).prompt

    assert isinstance(prompt, ChatPrompt)
    assert [message.is_models_own for message in prompt.messages] == [True, True, True, False]


def test_system_text_of_a_request_is_not_the_models_own() -> None:
    prompt = told(resolved(system="model's"), complete(system="mine")).prompt

    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[0] == ChatMessage(role="system", content="mine")


@pytest.mark.parametrize(("template", "is_models"), [("", True), ("{{ .Prompt }}!", False)])
def test_template_of_a_request_is_not_the_models(template: str, is_models: bool) -> None:
    prompt = told(resolved(template="{{ .Prompt }}"), complete(template=template)).prompt

    assert isinstance(prompt, ChatPrompt)
    assert prompt.is_models_template is is_models


def test_images_of_generate_are_the_users() -> None:
    prompt = told(resolved(projector="b" * 64), complete(images=(PNG,))).prompt

    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[-1].images == (PNG,)


def test_raw_prompt_keeps_its_images() -> None:
    message = told(resolved(projector="b" * 64), complete(raw=True, images=(PNG,)))

    assert message.prompt == RawPrompt(text="p", images=(PNG,))
    assert not message.wants_context


# ------------------------------------------------------------------ suffix


def test_suffix_goes_through_a_template_that_knows_it() -> None:
    model = resolved(template=FILLING, capabilities=("completion", "insert"))

    assert told(model, complete(suffix="s")).prompt == FillPrompt(
        prefix="p", suffix="s", template=FILLING
    )


def test_suffix_is_left_to_the_vocabulary_where_the_template_ignores_it() -> None:
    gguf = {"architecture": "llama", "metadata": FILL_TOKENS}
    model = resolved(template="{{ .Prompt }}", gguf=gguf, capabilities=("completion", "insert"))

    assert told(model, complete(suffix="s")).prompt == FillPrompt(prefix="p", suffix="s")


@pytest.mark.parametrize("prompt", ["p", ""])
def test_suffix_without_the_capability_is_refused_with_the_full_name(prompt: str) -> None:
    error = refusal(resolved(), complete(prompt=prompt, suffix="s"))

    assert isinstance(error, UnsupportedByModel)
    assert error.message == "registry.ollama.ai/library/tiny:latest does not support insert"


def test_template_of_a_request_must_know_the_suffix() -> None:
    model = resolved(template=FILLING, capabilities=("completion", "insert"))
    error = refusal(model, complete(suffix="s", template="{{ .Prompt }}"))

    assert error.message == "registry.ollama.ai/library/tiny:latest does not support insert"


# ------------------------------------------------------------------ images


@pytest.mark.parametrize(
    "request_",
    [
        complete(images=(PNG,)),
        complete(raw=True, images=(PNG,)),
        chat(messages=(ChatMessage(role="user", images=(PNG,)),)),
    ],
)
def test_images_need_a_model_that_can_see(request_: GenerationRequest) -> None:
    error = refusal(resolved(), request_)

    assert error.status == 400
    assert error.message == "this model is missing data required for image input"


def test_images_are_checked_before_anything_decodes_them() -> None:
    assert isinstance(refusal(resolved(projector="b" * 64), complete(images=(b"x",))), InvalidImage)


def test_images_of_a_conversation_are_counted_together() -> None:
    messages = tuple(ChatMessage(role="user", images=(PNG,)) for _ in range(17))
    error = refusal(resolved(projector="b" * 64), chat(messages=messages))

    assert isinstance(error, InvalidImage)


@pytest.mark.parametrize(("projector", "num_ctx"), [("b" * 64, 2048), ("", 64)])
def test_window_of_a_model_that_sees_has_room_for_images(projector: str, num_ctx: int) -> None:
    message = told(resolved(projector=projector), chat(options={"num_ctx": 64}))

    assert message.runner.num_ctx == num_ctx


def test_images_beside_an_empty_prompt_are_a_load() -> None:
    request = complete(prompt="", images=(b"x",))

    assert isinstance(engine_message("r", PROGRAM, resolved(), request, Priority.API), Load)


# ------------------------------------------------------------------ structured answers


def test_schema_holds_from_the_start_where_nobody_thinks() -> None:
    message = told(resolved(template=THINKING), chat(json_schema=SCHEMA))

    assert (message.json_schema, message.constrained_after) == (SCHEMA, "")


@pytest.mark.parametrize(
    ("think", "after"), [(None, "</think>"), (True, "</think>"), (False, ""), ("low", "</think>")]
)
def test_schema_waits_for_the_end_of_thinking(think: Any, after: str) -> None:
    model = resolved(template=THINKING, capabilities=("completion", "thinking"))

    assert told(model, chat(json_schema=SCHEMA, think=think)).constrained_after == after


def test_template_that_cannot_be_read_is_left_to_the_runner() -> None:
    model = resolved(template="{{ .Thinking", capabilities=("completion", "thinking"))

    assert told(model, chat(json_schema=SCHEMA)).constrained_after == ""


# ------------------------------------------------------------------ the rest


@pytest.mark.parametrize(
    ("architecture", "asked", "shifts"),
    [
        ("llama", None, True),
        ("llama", False, False),
        ("deepseek2", None, False),
        ("deepseek2", True, True),
    ],
)
def test_shift_is_the_architectures_unless_it_is_asked_for(
    architecture: str, asked: bool | None, shifts: bool
) -> None:
    model = resolved(gguf={"architecture": architecture, "metadata": {}})

    assert told(model, chat(shift=asked)).shift is shifts


def test_wishes_about_the_answer_are_passed_on() -> None:
    request = complete(top_logprobs=3, choices=4, scores_prompt=True, logit_bias=((5, -1.0),))
    message = told(resolved(), request)

    assert (message.top_logprobs, message.choices, message.scores_prompt) == (3, 4, True)
    assert message.sampling.logit_bias == ((5, -1.0),)


def test_nothing_to_generate_is_a_load_or_an_unload() -> None:
    load = engine_message("r", PROGRAM, resolved(), chat(messages=()), Priority.API)
    request = chat(messages=(), keep_alive=KeepAlive(seconds=0))
    unload = engine_message("r", PROGRAM, resolved(), request, Priority.API)

    assert isinstance(load, Load)
    assert isinstance(unload, Unload)
