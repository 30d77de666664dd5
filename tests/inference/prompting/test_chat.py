"""One entry for both kinds of templates, and what of a prompt is the model's own."""

from typing import Any

import pytest

from inference.messages import ChatMessage, ChatPrompt, ToolCall
from inference.prompting.chat import NO_BOUNDARIES, own_text, render_chat
from inference.prompting.control_names import BoundaryTexts
from tests.inference.prompting.templates import GO_TOOLS, JINJA_TOOLS

GO = "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"
JINJA = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


def user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def own(content: str) -> ChatMessage:
    return ChatMessage(role="system", content=content, is_models_own=True)


def chat(*messages: ChatMessage, template: str = GO, **fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=messages, template=template, **fields)


def shared(prompt: ChatPrompt) -> str:
    return own_text(prompt, render_chat(prompt), NO_BOUNDARIES)


@pytest.mark.parametrize(("template", "is_jinja"), [(GO, False), (JINJA, True)])
def test_either_kind_of_template_is_rendered(template: str, is_jinja: bool) -> None:
    assert render_chat(chat(user("hi"), template=template, is_jinja=is_jinja)) == "user:hi;"


def test_jinja_is_told_the_names_of_begin_and_end() -> None:
    prompt = chat(user("hi"), template="{{ bos_token }}|{{ eos_token }}", is_jinja=True)
    assert render_chat(prompt, BoundaryTexts("<s>", "</s>")) == "<s>|</s>"


def test_the_models_own_ends_at_the_callers_first_word() -> None:
    assert shared(chat(own("be brief"), user("hi"))) == "system:be brief;user:"


def test_without_a_callers_message_all_is_the_models() -> None:
    assert shared(chat(own("be brief"))) == "system:be brief;"


def test_what_the_caller_said_is_never_the_models() -> None:
    assert shared(chat(user("secret"), own("be brief"))) == "user:"


def test_tools_of_the_caller_are_not_the_models() -> None:
    template = "Begin. {{ .Tools }}{{ range .Messages }}{{ .Content }}{{ end }}"
    prompt = chat(own("brief"), user("x"), template=template, tools=({"type": "function"},))
    assert shared(prompt) == "Begin. "


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(role="my secret", content="x"),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="secret", arguments={}),)),
        ChatMessage(role="tool", tool_name="secret"),
    ],
)
def test_roles_names_and_calls_are_the_callers(message: ChatMessage) -> None:
    template = (
        "{{ range .Messages }}{{ if .ToolCalls }}{{ (index .ToolCalls 0).Function.Name }}"
        "{{ else if .ToolName }}{{ .ToolName }}{{ else }}{{ .Role }}{{ end }}{{ end }}"
    )
    assert shared(chat(message, template=template)) == ""


def test_a_template_that_fails_without_the_callers_words_shares_nothing() -> None:
    template = "{% if messages[0].content != 'hi' %}{{ raise_exception('no') }}{% endif %}hello"
    assert shared(chat(user("hi"), template=template, is_jinja=True)) == ""


def test_thinking_does_not_make_the_models_own_text_the_callers() -> None:
    prompt = chat(own("brief"), user("hi"), template=JINJA, is_jinja=True, think=True)
    assert shared(prompt) == "system:brief;user:"


@pytest.mark.parametrize(("template", "is_jinja"), [(GO_TOOLS, False), (JINJA_TOOLS, True)])
def test_a_round_of_tool_calls_is_shown(template: str, is_jinja: bool) -> None:
    call = ToolCall(name="f", arguments={"city": "Köln"})
    messages = (
        user("weather?"),
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", content="sunny", tool_name="f"),
    )
    text = render_chat(chat(*messages, template=template, is_jinja=is_jinja))
    begin = text.index("<tool_call>")
    assert text[begin:].replace(": ", ":").replace(", ", ",") == (
        '<tool_call>\n{"name":"f","arguments":{"city":"Köln"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
