"""What a batch loop tells apart in an answer: thinking, text and calls; when a schema holds."""

from typing import Any, Final

import pytest
from msgspec import structs

from inference.messages import (
    ChatMessage,
    ChatPrompt,
    DoneReason,
    FailureCode,
    Generate,
    Token,
    ToolCall,
)
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import LoopBench, asked

TEMPLATE: Final = (
    "{{ range .Messages }}{{ .Role }}:{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}{{ if .ToolCalls }}<tool_call>{{ range .ToolCalls }}"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
    "{{ end }}</tool_call>{{ end }};{{ end }}"
)
LOOK: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
CALL: Final = '<tool_call>{"name": "look", "arguments": {"at": "x"}}</tool_call>'


def chat(
    request_id: str = "r1", *, template: str = TEMPLATE, tools: bool = False, **fields: Any
) -> Generate:
    """Return a chat whose thinking comes apart unless `fields` say otherwise."""
    prompt = ChatPrompt(
        messages=(ChatMessage(role="user", content="Hi"),),
        template=template,
        tools=(LOOK,) if tools else (),
    )
    request = asked(request_id, **{"splits_thinking": True, **fields})
    return structs.replace(request, prompt=prompt)


def said(script: str, request: Generate | None = None, **fields: Any) -> LoopBench:
    """Let a model say something in answer to a chat."""
    bench = LoopBench(FakeModel(script=script), parallel=2)
    bench.add_request(request or chat(**fields))
    bench.run()
    return bench


# ---------------------------------------------------------------- thinking


def test_thinking_and_text_come_apart() -> None:
    bench = said("<think>hm</think>yes")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "yes")


def test_thinking_comes_before_the_text_and_piece_by_piece() -> None:
    bench = said("<think>hm</think>yes")
    pieces = [(e.thinking, e.text) for e in bench.events if isinstance(e, Token)]
    assert pieces == [("h", ""), ("m", ""), ("", "y"), ("", "e"), ("", "s")]


def test_an_answer_behind_an_opened_tag_begins_with_thinking() -> None:
    bench = said("hm</think>yes", template=TEMPLATE + "<think>\n")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "yes")


def test_tags_stay_in_the_text_where_thinking_is_not_to_come_apart() -> None:
    bench = said("<think>hm</think>yes", splits_thinking=False)
    assert (bench.thinking("r1"), bench.text("r1")) == ("", "<think>hm</think>yes")


def test_a_prompt_that_is_no_chat_is_answered_with_text() -> None:
    bench = said("<think>hm</think>yes", asked("r1", splits_thinking=True))
    assert bench.text("r1") == "<think>hm</think>yes"


def test_thinking_that_is_cut_short_is_all_there_is() -> None:
    bench = said("<think>hmmm", num_predict=9)
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_a_stop_string_ends_the_answer_in_the_thinking_too() -> None:
    bench = said("<think>hm! oh</think>yes", stop=("!",))
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")
    assert bench.finished("r1").reason is DoneReason.STOP


def test_the_context_has_the_thinking_and_its_tags() -> None:
    bench = said("<think>hm</think>yes")
    spoken = bytes(token % 256 for token in bench.finished("r1").context)
    assert spoken.endswith(b"<think>hm</think>yes")


# ---------------------------------------------------------------- tool calls


def test_a_call_comes_whole_behind_the_text() -> None:
    bench = said("I look." + CALL, tools=True)
    (call,) = bench.tool_calls("r1")
    assert (call.name, call.arguments, call.index) == ("look", {"at": "x"}, 0)
    assert call.id.startswith("call_")
    assert bench.text("r1") == "I look."
    assert bench.finished("r1").reason is DoneReason.STOP


def test_calls_behind_thinking_are_found() -> None:
    bench = said("<think>hm</think>" + CALL, tools=True)
    assert [call.name for call in bench.tool_calls("r1")] == ["look"]
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")


def test_calls_of_one_answer_are_counted() -> None:
    bench = said(CALL + CALL, tools=True)
    assert [call.index for call in bench.tool_calls("r1")] == [0, 1]


def test_without_tools_there_are_no_calls() -> None:
    bench = said('{"name": "look", "arguments": {"at": "x"}}', splits_thinking=False)
    assert bench.tool_calls("r1") == []
    assert bench.text("r1") == '{"name": "look", "arguments": {"at": "x"}}'


def test_a_call_of_a_tool_that_nobody_gave_is_text() -> None:
    bench = said('<tool_call>{"name": "jump", "arguments": {}}</tool_call>', tools=True)
    assert bench.tool_calls("r1") == []
    assert '{"name": "jump", "arguments": {}}' in bench.text("r1")


def test_a_call_that_breaks_off_is_not_lost() -> None:
    bench = said('<tool_call>{"name": "look", oh', tools=True)
    assert bench.tool_calls("r1") == []
    assert '{"name": "look", oh' in bench.text("r1")


def test_control_tokens_are_read_by_the_parser_and_shown_to_nobody() -> None:
    bench = said("a<unseen>b" + CALL, tools=True)
    assert [call.name for call in bench.tool_calls("r1")] == ["look"]
    assert bench.text("r1") == "ab"


def test_control_tokens_of_calls_stay_away_where_nothing_is_parsed() -> None:
    bench = said("a<tool_call>b</tool_call>c", splits_thinking=False)
    assert bench.text("r1") == "abc"


def test_every_choice_is_parsed_on_its_own() -> None:
    bench = said("<think>hm</think>ok" + CALL, tools=True, choices=3)
    for choice in range(3):
        assert (bench.thinking("r1", choice), bench.text("r1", choice)) == ("hm", "ok")
        assert [call.index for call in bench.tool_calls("r1", choice)] == [0]


def test_requests_side_by_side_are_parsed_on_their_own() -> None:
    bench = LoopBench(FakeModel(script="<think>hm</think>" + CALL), parallel=3)
    bench.add_request(chat("thinks"))
    bench.add_request(chat("calls", tools=True))
    bench.add("plain", splits_thinking=True)
    bench.run()
    assert [bench.thinking(each) for each in ("thinks", "calls", "plain")] == ["hm", "hm", ""]
    assert [len(bench.tool_calls(each)) for each in ("thinks", "calls", "plain")] == [0, 1, 0]


# ---------------------------------------------------------------- log probabilities


def test_log_probabilities_of_held_back_tokens_come_at_once_without_text() -> None:
    bench = said(CALL, tools=True, top_logprobs=0)
    tokens = [e for e in bench.events if isinstance(e, Token)]
    buffered = [e for e in tokens if e.logprobs and not (e.text or e.thinking or e.tool_calls)]
    assert buffered
    assert all(isinstance(e, ToolCall) for e in bench.tool_calls("r1"))


def test_no_log_probability_is_lost() -> None:
    spoken = "<think>hm</think>I look." + CALL
    bench = said(spoken, tools=True, top_logprobs=0)
    assert b"".join(each.token for each in bench.logprobs("r1")).decode() == spoken


# ---------------------------------------------------------------- when a schema holds


def test_a_schema_holds_behind_the_thinking() -> None:
    bench = said("<think>hm</think>yes", json_schema="x")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "xxx")
    assert bench.finished("r1").reason is DoneReason.STOP


def test_a_schema_holds_behind_thinking_that_the_prompt_has_opened() -> None:
    bench = said("hm</think>yes", json_schema="x", template=TEMPLATE + "<think>\n")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "xxx")


def test_a_schema_holds_from_the_first_character_where_the_model_does_not_think() -> None:
    bench = said("yes", json_schema="x")
    assert (bench.thinking("r1"), bench.text("r1")) == ("", "xxx")


def test_blanks_before_the_tag_leave_the_model_its_thinking() -> None:
    bench = said("\n <think>hm</think>yes", json_schema="x")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "xxx")


def test_what_only_began_like_a_tag_is_not_shown_before_the_schema() -> None:
    bench = said("<thank you", json_schema="x")
    assert (bench.thinking("r1"), bench.text("r1")) == ("", "xxx")


def test_a_schema_holds_from_the_start_where_thinking_does_not_come_apart() -> None:
    bench = said("<think>hm</think>yes", json_schema="x", splits_thinking=False)
    assert bench.text("r1") == "xxx"


def test_a_schema_holds_from_the_start_where_the_template_shows_no_thinking() -> None:
    bench = said("yes", json_schema="x", template="{{ range .Messages }}{{ .Content }}{{ end }}")
    assert bench.text("r1") == "xxx"


def test_thinking_that_never_ends_is_never_held_to_a_schema() -> None:
    bench = said("<think>hm", json_schema="x")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")


def test_every_choice_thinks_before_its_own_schema_holds() -> None:
    bench = said("<think>hm</think>yes", json_schema="x", choices=2)
    assert [bench.thinking("r1", choice) for choice in range(2)] == ["hm", "hm"]
    assert [bench.text("r1", choice) for choice in range(2)] == ["xxx", "xxx"]


def test_the_log_probabilities_of_a_schemas_answer_are_the_models() -> None:
    bench = said("yes", json_schema="x", top_logprobs=1)
    assert [(each.token, each.top[0].token) for each in bench.logprobs("r1")] == [
        (b"x", b"y"),
        (b"x", b"e"),
        (b"x", b"s"),
    ]


def test_a_pause_does_not_make_the_model_think_again() -> None:
    bench = LoopBench(FakeModel(script="<think>hmmmm</think>yes"))
    bench.add_request(chat(json_schema="x"))
    while bench.thinking("r1") != "hm":
        bench.step()
    bench.loop.pause("r1")
    bench.loop.resume("r1")
    bench.run()
    assert (bench.thinking("r1"), bench.text("r1")) == ("hmmmm", "xxx")


# ---------------------------------------------------------------- whatever comes between

SCRIPTS: Final = (
    f"<think>hé€</think> ok {CALL} and {CALL}",
    "<think>hm</thi",
    f"<thi {CALL[:30]}",
    f"{CALL}STOP{CALL}",
    "<think>hm and nothing else STOP",
    '<tool_call>{"name": "look", "arguments": {"at": "STOP"}}</tool_call>',
)


def everything(bench: LoopBench) -> tuple[Any, ...]:
    """Return all that a request's one answer gave, without the random ids of calls."""
    calls = [(call.name, call.arguments, call.index) for call in bench.tool_calls("r1")]
    tokens = [each.token for each in bench.logprobs("r1")]
    return bench.thinking("r1"), bench.text("r1"), calls, tokens, bench.finished("r1").reason


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("num_predict", [None, 12, 40])
def test_pauses_change_nothing_of_an_answer(script: str, num_predict: int | None) -> None:
    fields: dict[str, Any] = {
        "tools": True,
        "top_logprobs": 0,
        "stop": ("STOP",),
        "num_predict": num_predict,
    }
    paused = LoopBench(FakeModel(script=script), parallel=2)
    paused.add_request(chat(**fields))
    while not paused.loop.is_idle:
        paused.step()
        if paused.loop.has("r1"):
            paused.loop.pause("r1")
            paused.step()
            paused.loop.resume("r1")
    assert everything(paused) == everything(said(script, **fields))


@pytest.mark.parametrize("steps", [0, 1, 5, 12, 20])
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_answer_can_be_cancelled_at_every_step(script: str, steps: int) -> None:
    bench = LoopBench(FakeModel(script=script + " and so on" * 3))
    bench.add_request(chat(tools=True))
    for _ in range(steps):
        bench.step()
    bench.loop.cancel("r1")
    bench.run()
    assert bench.failed("r1").code is FailureCode.CANCELLED
