"""A request and a model become one message for the engine, or a refusal in the contract's words."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from inference.assembly import cache_group, engine_message, model_ref
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
from inference.requests import Caller, ChatRequest, CompletionRequest, GenerationRequest, KeepAlive
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
PROGRAM = Principal(user_id=7, username="alice", is_admin=False, kind=CredentialKind.KEY)
CALLER = Caller(principal=PROGRAM, priority=Priority.API)
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
    message = engine_message("r", CALLER, model, request)
    assert isinstance(message, Generate)
    return message


def refusal(model: ResolvedModel, request: GenerationRequest) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        engine_message("r", CALLER, model, request)
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


def test_priority_is_passed_on() -> None:
    caller = Caller(principal=PROGRAM, priority=Priority.BATCH)
    message = engine_message("r", caller, resolved(), chat())

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

    assert isinstance(engine_message("r", CALLER, resolved(), request), Load)


# ------------------------------------------------------------------ structured answers


def test_schema_is_passed_on() -> None:
    assert told(resolved(), chat(json_schema=SCHEMA)).json_schema == SCHEMA


# ------------------------------------------------------------------ thinking


def thinking(**changes: Any) -> ResolvedModel:
    return resolved(template=THINKING, capabilities=("completion", "thinking"), **changes)


def asked_to_think(message: Generate) -> bool | str | None:
    assert isinstance(message.prompt, ChatPrompt)
    return message.prompt.think


@pytest.mark.parametrize("request_", [chat(), complete()])
def test_a_model_that_can_think_does_so_unless_told_not_to(request_: GenerationRequest) -> None:
    message = told(thinking(), request_)

    assert (asked_to_think(message), message.splits_thinking) == (True, True)


@pytest.mark.parametrize(
    ("think", "is_split"), [(True, True), (False, False), ("low", True), ("max", True)]
)
@pytest.mark.parametrize("ask", [chat, complete])
def test_how_much_to_think_is_passed_on(ask: Any, think: Any, is_split: bool) -> None:
    message = told(thinking(), ask(think=think))

    assert (asked_to_think(message), message.splits_thinking) == (think, is_split)


@pytest.mark.parametrize("architecture", ["gptoss", "gpt-oss"])
def test_most_thinking_of_gpt_oss_is_high(architecture: str) -> None:
    model = thinking(gguf={"architecture": architecture, "metadata": {}})

    assert asked_to_think(told(model, chat(think="max"))) == "high"
    assert asked_to_think(told(model, chat(think="low"))) == "low"


@pytest.mark.parametrize("think", [None, False])
def test_a_model_that_cannot_think_is_told_what_was_asked(think: Any) -> None:
    message = told(resolved(), chat(think=think))

    assert (asked_to_think(message), message.splits_thinking) == (think, False)


@pytest.mark.parametrize(
    ("request_", "param"), [(chat(tools=({},)), "tools"), (complete(suffix="x"), "suffix")]
)
def test_what_a_model_cannot_do_names_the_field(request_: GenerationRequest, param: str) -> None:
    assert refusal(resolved(), request_).param == param


@pytest.mark.parametrize("ask", [chat, complete])
@pytest.mark.parametrize("think", [True, "low"])
def test_thinking_needs_a_model_that_can(ask: Any, think: Any) -> None:
    error = refusal(resolved(), ask(think=think))

    assert (error.status, error.message) == (400, '"tiny" does not support thinking')


def test_nothing_is_split_from_a_raw_prompt() -> None:
    assert not told(thinking(), complete(raw=True)).splits_thinking


OLD_ANSWER = (
    ChatMessage(role="user", content="?"),
    ChatMessage(role="assistant", content="<think>hm</think>yes"),
    ChatMessage(role="user", content="!"),
)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"gguf": {"architecture": "qwen3", "metadata": {}}}, "yes"),
        ({"name": "alice/deepseek-r1:7b"}, "yes"),
        ({}, "<think>hm</think>yes"),
    ],
)
def test_some_models_are_not_shown_what_they_thought(changes: Any, shown: str) -> None:
    prompt = told(thinking(**changes), chat(messages=OLD_ANSWER)).prompt

    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[1].content == shown


# ------------------------------------------------------------------ templates

JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"
JINJA_TOOLS = "{% if tools %}{{ tools }}{% endif %}" + JINJA
TOOLS: tuple[dict[str, Any], ...] = ({"type": "function", "function": {"name": "f"}},)


def jinja(text: str, **more: str) -> dict[str, Any]:
    metadata = {"tokenizer.chat_template": text}
    return {"architecture": "llama", "metadata": metadata | more}


def template_of(model: ResolvedModel, request: GenerationRequest) -> tuple[str, bool]:
    prompt = told(model, request).prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt.template, prompt.is_jinja


@pytest.mark.parametrize("request_", [chat(), complete()])
def test_template_of_the_file_is_used_where_the_manifest_has_none(
    request_: GenerationRequest,
) -> None:
    assert template_of(resolved(gguf=jinja(JINJA)), request_) == (JINJA, True)


def test_template_of_the_manifest_goes_before_the_files() -> None:
    model = resolved(template="{{ .Prompt }}", gguf=jinja(JINJA))

    assert template_of(model, chat()) == ("{{ .Prompt }}", False)


def test_template_of_a_request_goes_before_all() -> None:
    assert template_of(resolved(gguf=jinja(JINJA)), complete(template="{{ .Prompt }}!")) == (
        "{{ .Prompt }}!",
        False,
    )


def test_without_any_template_the_prompt_is_all() -> None:
    assert template_of(resolved(), chat()) == ("{{ .Prompt }}", False)


@pytest.mark.parametrize(("tools", "template"), [(TOOLS, JINJA_TOOLS), ((), JINJA)])
def test_template_for_tools_is_used_with_tools(tools: Any, template: str) -> None:
    gguf = jinja(JINJA, **{"tokenizer.chat_template.tool_use": JINJA_TOOLS})
    model = resolved(gguf=gguf, capabilities=("completion", "tools"))

    assert template_of(model, chat(tools=tools)) == (template, True)


def test_model_with_a_renderer_uses_the_template_of_its_file() -> None:
    model = resolved(
        template="{{ .Prompt }}",
        gguf=jinja(JINJA),
        config={"renderer": "qwen3-coder", "parser": "qwen3-coder"},
    )

    assert template_of(model, chat()) == (JINJA, True)
    assert told(model, chat()).output_parser == "qwen3-coder"


# ------------------------------------------------------------------ messages


def roles(model: ResolvedModel, request: GenerationRequest) -> list[tuple[str, str]]:
    prompt = told(model, request).prompt
    assert isinstance(prompt, ChatPrompt)
    return [(message.role, message.content) for message in prompt.messages]


HAS_MESSAGES = {"system": "own", "messages": (("user", "a"), ("assistant", "b"))}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            chat(),
            [("system", "own"), ("user", "a"), ("assistant", "b"), ("user", "Hello")],
        ),
        (
            chat(messages=(ChatMessage(role="system", content="s"), *HELLO)),
            [("user", "a"), ("assistant", "b"), ("system", "s"), ("user", "Hello")],
        ),
        (
            chat(messages=(*HELLO, ChatMessage(role="system", content="s"))),
            [
                ("system", "own"),
                ("user", "a"),
                ("assistant", "b"),
                ("user", "Hello"),
                ("system", "s"),
            ],
        ),
        (complete(), [("system", "own"), ("user", "a"), ("assistant", "b"), ("user", "p")]),
        (
            complete(system="s"),
            [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "p")],
        ),
        (complete(context=(1,)), [("system", "own"), ("user", "p")]),
    ],
)
def test_what_the_model_says_goes_before_what_was_asked(
    request_: GenerationRequest, expected: list[tuple[str, str]]
) -> None:
    assert roles(resolved(**HAS_MESSAGES), request_) == expected


def test_a_developers_message_is_a_system_message() -> None:
    messages = (ChatMessage(role="Developer", content="s"), *HELLO)

    assert roles(resolved(system="own"), chat(messages=messages)) == [
        ("system", "s"),
        ("user", "Hello"),
    ]


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


def test_only_the_prompt_may_be_asked_for() -> None:
    assert told(resolved(), chat(renders_only=True)).renders_only


def test_tokens_are_counted_where_that_is_asked_for() -> None:
    assert told(resolved(), chat(renders_only=True, counts_tokens=True)).counts_tokens


def test_a_prompt_that_is_scored_may_have_no_answer() -> None:
    request = complete(raw=True, scores_prompt=True, options={"num_predict": 0})
    assert told(resolved(), request).sampling.num_predict == 0


def test_elsewhere_no_tokens_mean_no_limit() -> None:
    request = complete(raw=True, options={"num_predict": 0})
    assert told(resolved(), request).sampling.num_predict is None


def test_forced_tools_and_the_number_of_calls_are_passed_on() -> None:
    model = resolved(capabilities=("completion", "tools"))
    message = told(model, chat(tools=TOOLS, forced_tools=("look",), most_calls=1))
    assert (message.forced_tools, message.most_calls) == (("look",), 1)


def test_a_model_without_tools_cannot_be_forced_to_call_one() -> None:
    assert "does not support tools" in refusal(resolved(), chat(forced_tools=("look",))).message


EMBEDDING: Any = {"capabilities": ("embedding",)}


@pytest.mark.parametrize(
    ("changes", "request_", "message"),
    [
        (EMBEDDING, complete(prompt=""), '"tiny" does not support generate'),
        (EMBEDDING, chat(messages=()), '"tiny" does not support chat'),
        (
            {},
            chat(messages=(), tools=TOOLS),
            "registry.ollama.ai/library/tiny:latest does not support tools",
        ),
        (
            {},
            complete(prompt="", suffix="s"),
            "registry.ollama.ai/library/tiny:latest does not support insert",
        ),
        ({}, complete(prompt="", think=True), '"tiny" does not support thinking'),
        (
            {},
            complete(prompt="", raw=True, system="s"),
            "raw mode does not support template, system, or context",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_it_is_loaded(
    changes: Any, request_: GenerationRequest, message: str
) -> None:
    error = refusal(resolved(**changes), request_)

    assert (error.status, error.message) == (400, message)


@pytest.mark.parametrize("ask", [{"prompt": ""}, {"prompt": "", "raw": True, "suffix": "s"}])
def test_any_model_can_be_unloaded(ask: Any) -> None:
    request = complete(**ask, keep_alive=KeepAlive(seconds=0))

    assert isinstance(engine_message("r", CALLER, resolved(**EMBEDDING), request), Unload)


@pytest.mark.parametrize("field", [{"template": "t"}, {"system": "s"}, {"context": (1,)}])
def test_a_raw_prompt_stands_alone(field: Any) -> None:
    error = refusal(resolved(), complete(raw=True, **field))

    assert error.message == "raw mode does not support template, system, or context"


def test_nothing_to_generate_is_a_load_or_an_unload() -> None:
    load = engine_message("r", CALLER, resolved(), chat(messages=()))
    request = chat(messages=(), keep_alive=KeepAlive(seconds=0))
    unload = engine_message("r", CALLER, resolved(), request)

    assert isinstance(load, Load)
    assert isinstance(unload, Unload)
