"""What the caller wrote names no control tokens, whatever the template does with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.messages import ChatMessage, ChatPrompt, ToolCall
from inference.prompting.chat import render_chat
from inference.prompting.control_names import ControlNames
from inference.prompting.errors import TemplateLimitError
from inference.prompting.marking import Segment, disarmed

TURNS = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}"
NAMES = ControlNames(["<|im_end|>", "<|im_start|>", "<|end|>", "</s>"])
FIRST_STAND_IN = chr(0x20000)


def user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def own(content: str) -> ChatMessage:
    return ChatMessage(role="system", content=content, is_models_own=True)


def chat(*messages: ChatMessage, template: str = TURNS, **fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=messages, template=template, **fields)


def segments(prompt: ChatPrompt) -> list[Segment]:
    safe, stand_ins = disarmed(prompt, NAMES)
    return stand_ins.segments(render_chat(safe))


def kept(prompt: ChatPrompt) -> list[str]:
    """Return what stays text."""
    return [segment.text for segment in segments(prompt) if segment.is_callers]


def text(prompt: ChatPrompt) -> str:
    return "".join(segment.text for segment in segments(prompt))


def test_without_names_the_chat_stays_as_it_is() -> None:
    prompt = chat(own("be brief"), user("a < b | c"), tools=({"type": "function"},))
    assert disarmed(prompt, NAMES)[0] == prompt


def test_the_callers_name_stands_between_the_rest() -> None:
    assert segments(chat(user("hi<|im_end|>you"))) == [
        Segment("<user>hi", is_callers=False),
        Segment("<|im_end|>", is_callers=True),
        Segment("you</>", is_callers=False),
    ]


def test_the_manifests_messages_may_name_control_tokens() -> None:
    assert kept(chat(own("be</s>"), user("hi"))) == []


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(role="assistant", thinking="hm</s>", content="a"),
        ChatMessage(role="tool", content="</s>"),
        ChatMessage(role="tool", tool_name="</s>"),
        ChatMessage(role="tool", tool_call_id="</s>"),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="</s>", arguments={}),)),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="f", arguments={}, id="</s>"),)),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="f", arguments={"a": "</s>"}),)),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="f", arguments={"</s>": 1}),)),
        ChatMessage(role="assistant", tool_calls=(ToolCall(name="f", arguments={"a": ["</s>"]}),)),
        ChatMessage(role="</s>"),
    ],
)
@pytest.mark.parametrize("is_jinja", [False, True])
def test_every_text_of_the_callers_counts(message: ChatMessage, *, is_jinja: bool) -> None:
    go = (
        "{{ range .Messages }}{{ .Role }}{{ .Content }}{{ .Thinking }}{{ .ToolName }}"
        "{{ .ToolCallID }}{{ range .ToolCalls }}{{ .ID }}{{ .Function.Name }}"
        "{{ .Function.Arguments }}{{ end }}{{ end }}"
    )
    template = "{{ messages | tojson }}" if is_jinja else go
    prompt = chat(user("hi"), message, template=template, is_jinja=is_jinja)
    assert set(kept(prompt)) == {"</s>"}


@pytest.mark.parametrize("template", ["{{ .Tools }}{{ range .Messages }}{{ end }}", "{{ tools }}"])
def test_tools_are_the_callers_too(template: str) -> None:
    function = {"name": "f", "description": "ends</s>", "parameters": {"properties": {"</s>": {}}}}
    tool = {"type": "function", "function": function}
    prompt = chat(user("x"), template=template, tools=(tool,), is_jinja="{{ tools" in template)
    assert kept(prompt) == ["</s>", "</s>"]


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ messages[0].content | trim }}", "hi</s>"),
        ("{{ messages[0].content[2:4] }}", "hi"),
        ("{% if 'hi' in messages[0].content %}yes{% endif %}", "yes"),
        ("{{ messages[0].content.split('hi')[1] | trim }}", "</s>"),
    ],
)
def test_a_template_may_look_into_the_text(template: str, shown: str) -> None:
    prompt = chat(user("  hi</s> "), template=template, is_jinja=True)
    assert text(prompt) == shown
    assert kept(prompt) == (["</s>"] if "</s>" in shown else [])


@pytest.mark.parametrize(("begun", "ended"), [("a<", "|im_end|>"), ("a<|im_", "end|>")])
def test_two_texts_make_up_no_name_together(begun: str, ended: str) -> None:
    glued = "{{ range .Messages }}{{ .Content }}{{ end }}"
    prompt = chat(user(begun), ChatMessage(role="assistant", content=ended), template=glued)
    assert text(prompt) == "a<|im_end|>"
    assert kept(prompt) == [begun[1:]]


@pytest.mark.parametrize("role", ["end", "end|><|im_start", "<|end|>", "END"])
def test_an_invented_role_makes_up_no_name(role: str) -> None:
    template = "{{ range .Messages }}<|{{ .Role }}|>{{ end }}"
    assert kept(chat(user("x"), ChatMessage(role=role), template=template)) == [role]


@pytest.mark.parametrize("role", ["user", "tool", "ipython"])
def test_a_role_that_is_in_no_name_is_shown_to_the_template(role: str) -> None:
    template = '{{ range .Messages }}{{ if eq .Role "' + role + '" }}yes{{ end }}{{ end }}'
    assert text(chat(ChatMessage(role=role, content="x"), template=template)) == "yes"


def test_stand_ins_in_the_callers_text_deceive_nobody() -> None:
    prompt = chat(user(f"a{FIRST_STAND_IN}</s>"))
    assert kept(prompt) == ["</s>"]
    assert text(prompt) == f"<user>a{FIRST_STAND_IN}</s></>"


def test_stand_ins_in_the_template_deceive_nobody() -> None:
    assert text(chat(user("</s>"), template=FIRST_STAND_IN + TURNS)) == (
        FIRST_STAND_IN + "<user></s></>"
    )


def test_more_names_than_there_are_stand_ins_are_refused() -> None:
    messages = [ChatMessage(role=f"<{number}>") for number in range(43_000)]
    with pytest.raises(TemplateLimitError):
        disarmed(chat(*messages), NAMES)


def test_images_stay_with_their_messages() -> None:
    message = ChatMessage(role="user", content="</s>", images=(b"\xff\x00",))
    assert text(chat(message)) == "<user>[img-0]</s></>"


CONVERSATIONS = st.lists(
    st.builds(
        ChatMessage,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.lists(st.sampled_from(["a", " ", "<", "</s>", "|im_end|>", "<|im"])).map(
            "".join
        ),
        is_models_own=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(CONVERSATIONS)
def test_the_prompt_is_the_one_that_was_asked_for(messages: list[ChatMessage]) -> None:
    prompt = chat(*messages)
    assert text(prompt) == render_chat(prompt)


@given(CONVERSATIONS)
def test_no_name_of_the_callers_is_left_where_it_counts(messages: list[ChatMessage]) -> None:
    callers = [message for message in messages if not message.is_models_own]
    template = "{{ range .Messages }}{{ .Content }}{{ end }}"
    rest = [s.text for s in segments(chat(*callers, template=template)) if not s.is_callers]
    assert not [part for part in rest if any(name in part for name in ("</s>", "<|im_end|>"))]
