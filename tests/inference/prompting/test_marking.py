"""Which parts of a rendered prompt the caller wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.messages import ChatMessage, ChatPrompt, ToolCall
from inference.prompting.errors import TemplateError
from inference.prompting.marking import Segment, render_segments
from inference.prompting.ollama import render_chat

TURNS = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}"
LEGACY = "{{ if .System }}[{{ .System }}]{{ end }}Q: {{ .Prompt }} A: {{ .Response }}"
MARK = chr(0x100000)


def user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def own(content: str) -> ChatMessage:
    return ChatMessage(role="system", content=content, is_models_own=True)


def chat(*messages: ChatMessage, template: str = TURNS) -> ChatPrompt:
    return ChatPrompt(messages=messages, template=template)


def models(text: str) -> Segment:
    return Segment(text, is_callers=False)


def callers(text: str) -> Segment:
    return Segment(text, is_callers=True)


def test_the_callers_text_stands_between_the_templates() -> None:
    segments, is_known = render_segments(chat(user("hi")))
    assert is_known
    assert segments == [models("<user>"), callers("hi"), models("</>")]


def test_the_manifests_messages_are_the_models() -> None:
    segments, is_known = render_segments(chat(own("be brief"), user("hi")))
    assert is_known
    assert segments == [models("<system>be brief</><user>"), callers("hi"), models("</>")]


def test_without_a_callers_text_all_is_the_models() -> None:
    assert render_segments(chat(own("be brief"))) == ([models("<system>be brief</>")], True)


def test_thinking_is_the_callers_too() -> None:
    template = "{{ range .Messages }}({{ .Thinking }}){{ .Content }}{{ end }}"
    message = ChatMessage(role="assistant", content="yes", thinking="hm")
    segments, _ = render_segments(chat(message, template=template))
    assert segments == [models("("), callers("hm"), models(")"), callers("yes")]


def test_merged_messages_are_marked_one_by_one() -> None:
    segments, is_known = render_segments(chat(user("one"), user("two")))
    assert is_known
    assert [s.text for s in segments if s.is_callers] == ["one", "two"]


def test_a_template_of_the_old_style_is_marked_too() -> None:
    segments, is_known = render_segments(chat(own("brief"), user("hi"), template=LEGACY))
    assert is_known
    assert segments == [models("[brief]Q: "), callers("hi"), models(" A: ")]


def test_a_text_that_is_shown_twice_is_the_callers_twice() -> None:
    template = "{{ range .Messages }}{{ .Content }}|{{ .Content }}{{ end }}"
    segments, _ = render_segments(chat(user("hi"), template=template))
    assert segments == [callers("hi"), models("|"), callers("hi")]


def test_a_text_that_is_not_shown_is_nowhere() -> None:
    segments, is_known = render_segments(
        chat(user("hi"), template="{{ range .Messages }}x{{ end }}")
    )
    assert is_known
    assert segments == [models("x")]


@pytest.mark.parametrize(
    "template",
    [
        '{{ range .Messages }}{{ printf "%.2s" .Content }}{{ end }}',
        "{{ range .Messages }}{{ len .Content }}{{ end }}",
        '{{ range .Messages }}{{ if eq .Content "hello" }}Hi!{{ end }}{{ end }}',
        "{{ range .Messages }}{{ slice .Content 1 3 }}{{ end }}",
    ],
)
def test_a_template_that_looks_into_the_text_gives_no_answer(template: str) -> None:
    prompt = chat(user("hello"), template=template)
    assert render_segments(prompt) == ([models(render_chat(prompt))], False)


def test_marks_in_the_callers_text_deceive_nobody() -> None:
    text = f"a{MARK}b{chr(0x100001)}c"
    segments, is_known = render_segments(chat(user(text)))
    assert is_known
    assert segments == [models("<user>"), callers(text), models("</>")]


def test_marks_in_the_template_deceive_nobody() -> None:
    segments, is_known = render_segments(chat(user("hi"), template=MARK + TURNS))
    assert is_known
    assert segments == [models(MARK + "<user>"), callers("hi"), models("</>")]


def test_marks_in_other_fields_of_the_caller_deceive_nobody() -> None:
    calls = "{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}"
    template = f"{{{{ range .Messages }}}}{calls}{{{{ .Content }}}}{{{{ end }}}}"
    call = ToolCall(name=MARK, arguments={})
    message = ChatMessage(role="assistant", content="x", tool_calls=(call,))
    segments, _ = render_segments(chat(message, template=template))
    assert segments == [models(MARK), callers("x")]


def test_a_template_that_fails_raises() -> None:
    with pytest.raises(TemplateError):
        render_segments(chat(user("hi"), template="{{ index .Messages 9 }}"))


CONVERSATIONS = st.lists(
    st.builds(
        ChatMessage,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.text(max_size=12),
        thinking=st.text(max_size=4),
        is_models_own=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(
    CONVERSATIONS,
    st.sampled_from([TURNS, LEGACY, "{{ range .Messages }}{{ json .Content }}{{ end }}"]),
)
def test_the_segments_together_are_the_rendered_prompt(
    messages: list[ChatMessage], template: str
) -> None:
    prompt = chat(*messages, template=template)
    segments, _ = render_segments(prompt)
    assert "".join(segment.text for segment in segments) == render_chat(prompt)


@given(CONVERSATIONS, st.sampled_from([TURNS, LEGACY]))
def test_the_callers_segments_are_what_the_caller_sent(
    messages: list[ChatMessage], template: str
) -> None:
    segments, is_known = render_segments(chat(*messages, template=template))
    sent = {text for m in messages if not m.is_models_own for text in (m.content, m.thinking)}
    assert is_known
    assert {segment.text for segment in segments if segment.is_callers} <= sent
