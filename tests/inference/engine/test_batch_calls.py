"""Answers of which calls are asked: forced ones, so many and no more; what the thinking takes."""

import json
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from inference.engine.model import Logits
from inference.engine.prompt import PromptError, prepare
from inference.messages import ChatPrompt, DoneReason, FailureCode, Generate, RawPrompt, Token
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import LoopBench, asked
from tests.inference.engine.test_batch_structure import CALL, LOOK, TEMPLATE, chat, said

LOOKING = '{"name": "look", "arguments": {"at": "x"}}'
BOTH = f'[{LOOKING}, {{"name": "look", "arguments": {{"at": "STOP"}}}}]'
OPENED = TEMPLATE + "<think>\n"


class Spelled:
    """Allows one text and nothing else."""

    def __init__(self, text: str) -> None:
        self.left = text.encode()

    @property
    def is_complete(self) -> bool:
        return not self.left

    def apply(self, logits: Logits) -> None:
        token = 256 + self.left[0]
        logits[:] = np.where(np.arange(len(logits)) == token, logits, -np.inf)

    def accept(self, token: int) -> None:
        assert token == 256 + self.left[0]
        self.left = self.left[1:]

    def accept_text(self, text: str) -> bool:
        is_allowed = self.left.startswith(text.encode())
        self.left = self.left[len(text.encode()) * is_allowed :]
        return is_allowed

    def fresh(self) -> "Spelled":
        return Spelled(self.left.decode())


class Forced(FakeModel):
    """Says its script as long as it may, then what the grammar of forced calls allows."""

    def __init__(self, script: str = "Well", calls: str = BOTH) -> None:
        super().__init__(script=script)
        self.calls = calls
        self.schemas: list[str] = []

    def constraint(self, json_schema: str) -> Spelled:  # type: ignore[override]
        self.schemas.append(json_schema)
        return Spelled(self.calls)


def forced(script: str = "Well", *, calls: str = BOTH, **fields: Any) -> LoopBench:
    """Force a call of the one tool; the model would say the script."""
    bench = LoopBench(Forced(script, calls), parallel=2)
    fields = {"tools": True, "forced_tools": ("look",), "splits_thinking": False, **fields}
    bench.add_request(chat(**fields))
    bench.run()
    return bench


def places(bench: LoopBench, choice: int = 0) -> list[str]:
    return [call.arguments["at"] for call in bench.tool_calls("r1", choice)]


def refusal(request: Generate) -> PromptError:
    with pytest.raises(PromptError) as caught:
        prepare(FakeModel(), request)
    return caught.value


# ---------------------------------------------------------------- forced


def test_a_forced_answer_is_calls_and_nothing_else() -> None:
    bench = forced()
    assert places(bench) == ["x", "STOP"]
    assert [call.index for call in bench.tool_calls("r1")] == [0, 1]
    assert (bench.text("r1"), bench.thinking("r1")) == ("", "")
    assert bench.finished("r1").reason is DoneReason.STOP


def test_each_forced_call_comes_as_soon_as_it_is_complete() -> None:
    bench = forced(top_logprobs=0)
    tokens = [event for event in bench.events if isinstance(event, Token)]
    assert [at for at, token in enumerate(tokens) if token.tool_calls] == [
        BOTH.index("}}") + 1,
        BOTH.rindex("}}") + 1,
    ]


def test_the_schema_of_a_forced_answer_is_that_of_the_tools() -> None:
    model = Forced(calls=LOOKING)
    prepare(model, chat(tools=True, forced_tools=("look",), most_calls=1, json_schema="{}"))
    [schema] = model.schemas
    assert json.loads(schema)["anyOf"][0]["properties"]["name"] == {"const": "look"}


@pytest.mark.parametrize("template", [TEMPLATE, OPENED])
def test_the_model_may_think_before_a_forced_call(template: str) -> None:
    script = ("" if template == OPENED else "<think>") + "hm</think>no"
    bench = forced(script, splits_thinking=True, template=template)
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")
    assert places(bench) == ["x", "STOP"]


def test_a_model_that_does_not_think_calls_from_the_first_character() -> None:
    bench = forced("no", splits_thinking=True)
    assert (bench.thinking("r1"), bench.text("r1")) == ("", "")
    assert places(bench) == ["x", "STOP"]


def test_a_model_that_would_end_in_its_thinking_calls_first() -> None:
    bench = forced("<think>hm", splits_thinking=True)
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")
    assert places(bench) == ["x", "STOP"]


def test_the_models_own_way_to_call_is_not_looked_for_where_a_call_is_forced() -> None:
    bench = forced("<think>hm</think>" + CALL, splits_thinking=True, calls=LOOKING)
    assert places(bench) == ["x"]
    assert bench.text("r1") == ""


def test_channels_lead_to_a_forced_call_too() -> None:
    script = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
    bench = forced(script + "no", splits_thinking=True, output_parser="harmony")
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", "")
    assert places(bench) == ["x", "STOP"]


def test_a_channels_own_call_is_kept_to_the_forced_one() -> None:
    script = "<|channel|>commentary to=functions.look<|message|>{}"
    bench = forced(script, splits_thinking=True, output_parser="harmony", calls=LOOKING)
    assert places(bench) == ["x"]


@pytest.mark.parametrize("thinks", [True, False])
def test_a_stop_string_does_not_cut_a_forced_call(*, thinks: bool) -> None:
    bench = forced("<think>hm</think>", splits_thinking=thinks, stop=("STOP", "name"))
    assert places(bench) == ["x", "STOP"]
    assert bench.finished("r1").stop_sequence == ""


def test_a_forced_call_that_does_not_fit_is_dropped() -> None:
    bench = forced(num_predict=len(BOTH) - 5)
    assert places(bench) == ["x"]
    assert bench.text("r1") == ""
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_thinking_that_leaves_no_room_for_a_forced_call_is_shown() -> None:
    bench = forced("<think>hmmm", splits_thinking=True, num_predict=9)
    assert (bench.thinking("r1"), bench.text("r1"), places(bench)) == ("hm", "", [])
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_no_log_probability_of_a_forced_call_is_lost() -> None:
    bench = forced(top_logprobs=0)
    assert b"".join(each.token for each in bench.logprobs("r1")).decode() == BOTH


def test_every_choice_is_forced() -> None:
    bench = forced(choices=3)
    assert [places(bench, choice) for choice in range(3)] == [["x", "STOP"]] * 3


def test_forced_calls_end_behind_the_last_that_may_be() -> None:
    bench = forced(most_calls=1)
    assert places(bench) == ["x"]
    assert bench.finished("r1").reason is DoneReason.STOP


def test_a_forced_tool_has_to_be_there() -> None:
    error = refusal(chat(tools=True, forced_tools=("jump",)))
    assert error.code is FailureCode.BAD_REQUEST
    assert error.message == 'there is no tool "jump" to be called'


def test_only_a_chat_has_tools_to_be_forced() -> None:
    request = structs.replace(asked("r1"), prompt=RawPrompt(text="x"), forced_tools=("look",))
    assert refusal(request).message == 'there is no tool "look" to be called'


# ---------------------------------------------------------------- strict tools


def strictly(script: str, *, allowed: str = LOOKING, **fields: Any) -> LoopBench:
    """Let the model say a script where a call of its own accord has to be the allowed one."""
    bench = LoopBench(Forced(script, allowed), parallel=2)
    request = chat(tools=True, **fields)
    assert isinstance(request.prompt, ChatPrompt)
    tool = {"function": {**LOOK["function"], "strict": True}}
    bench.add_request(
        structs.replace(request, prompt=structs.replace(request.prompt, tools=(tool,)))
    )
    bench.run()
    return bench


def test_a_free_call_of_a_strict_tool_is_kept_to_its_schema() -> None:
    bench = strictly("Let me look." + CALL.replace("look", "jump"))
    assert places(bench) == ["x"]
    assert bench.text("r1") == "Let me look."
    assert bench.finished("r1").reason is DoneReason.STOP


def test_every_free_call_of_a_strict_tool_is_kept_to_its_schema() -> None:
    script = CALL.replace('"at"', '"in"') * 2
    assert places(strictly(script)) == ["x", "x"]


def test_beside_its_calls_an_answer_with_strict_tools_is_free() -> None:
    bench = strictly('<think>hm</think>{"name": "jump"} is JSON')
    assert (bench.thinking("r1"), bench.text("r1")) == ("hm", '{"name": "jump"} is JSON')


def test_a_call_that_began_otherwise_than_the_grammar_knows_is_left_to_the_model() -> None:
    bench = strictly(CALL, allowed="[]")
    assert places(bench) == ["x"]


def test_a_strict_call_whose_end_is_held_back_for_a_stop_string_ends() -> None:
    assert places(strictly(CALL, stop=("}?", "}}?"))) == ["x"]


def test_log_probabilities_of_a_strict_call_are_the_models() -> None:
    bench = strictly(CALL.replace('"x"', '"y"'), top_logprobs=1)
    assert places(bench) == ["x"]
    assert (b"x", b"y") in [(each.token, each.top[0].token) for each in bench.logprobs("r1")]


def test_parameters_of_a_strict_tool_that_no_grammar_keeps_are_refused() -> None:
    request = chat(tools=True)
    assert isinstance(request.prompt, ChatPrompt)
    tool = {"function": {"name": "look", "strict": True, "parameters": {"type": "string"}}}
    error = refusal(structs.replace(request, prompt=structs.replace(request.prompt, tools=(tool,))))
    assert (error.code, "not of type" in error.message) == (FailureCode.BAD_REQUEST, True)


# ---------------------------------------------------------------- so many and no more


def test_a_free_answer_ends_behind_the_calls_that_it_may_have() -> None:
    bench = said(f"a{CALL}b{CALL}c", tools=True, most_calls=1)
    assert len(bench.tool_calls("r1")) == 1
    assert bench.text("r1") == "a"
    assert bench.finished("r1").reason is DoneReason.STOP
    assert bench.finished("r1").usage.completion_tokens < len(f"a{CALL}b")


def test_an_answer_with_fewer_calls_ends_where_it_wants() -> None:
    bench = said(f"a{CALL}b", tools=True, most_calls=2)
    assert (len(bench.tool_calls("r1")), bench.text("r1")) == (1, "ab")


def test_a_call_that_was_cut_off_is_not_one_too_many() -> None:
    bench = said(CALL.removesuffix("}</tool_call>"), tools=True, most_calls=1)
    assert len(bench.tool_calls("r1")) == 1


# ---------------------------------------------------------------- tokens of the thinking


def reasoned(script: str, **fields: Any) -> int:
    return said(script, **fields).finished("r1").usage.reasoning_tokens


def test_thinking_is_counted_with_its_tags() -> None:
    assert reasoned("<think>hm</think>yes") == len("<think>hm</think>")


def test_thinking_that_the_prompt_has_opened_is_counted() -> None:
    assert reasoned("hm</think>yes", template=OPENED) == len("hm</think>")


def test_thinking_that_is_cut_short_is_counted() -> None:
    assert reasoned("<think>hmmm", num_predict=9) == 9


@pytest.mark.parametrize("script", ["yes", "<thank you", CALL])
def test_an_answer_without_thinking_has_no_tokens_of_it(script: str) -> None:
    assert reasoned(script, tools=True) == 0


def test_what_is_not_told_apart_is_not_counted() -> None:
    assert reasoned("<think>hm</think>yes", splits_thinking=False) == 0


def test_the_thinking_of_all_choices_is_counted() -> None:
    assert reasoned("<think>hm</think>yes", choices=3) == 3 * len("<think>hm</think>")


def test_of_channels_only_the_thinking_is_counted() -> None:
    thought = "<|channel|>analysis<|message|>hm<|end|>"
    rest = "<|start|>assistant<|channel|>final<|message|>yes"
    assert reasoned(thought + rest, output_parser="harmony") == len(thought)


# ---------------------------------------------------------------- what ended it


def test_the_stop_string_that_ended_an_answer_is_told() -> None:
    finished = said("hello there", splits_thinking=False, stop=("there", "lo t")).finished("r1")
    assert (finished.reason, finished.stop_sequence) == (DoneReason.STOP, "lo t")


def test_without_a_stop_string_none_is_told() -> None:
    assert said("hello", splits_thinking=False, stop=("x",)).finished("r1").stop_sequence == ""


def test_of_several_choices_each_is_told_its_stop_string() -> None:
    bench = said("hello", splits_thinking=False, stop=("l",), choices=2)
    assert [ended.stop_sequence for ended in bench.choices_ended("r1")] == ["l", "l"]
    assert bench.finished("r1").stop_sequence == ""


# ---------------------------------------------------------------- no answer at all


@pytest.mark.parametrize("choices", [1, 2])
def test_a_prompt_can_be_scored_without_an_answer(choices: int) -> None:
    bench = LoopBench(parallel=2)
    bench.add("r1", "hello", scores_prompt=True, top_logprobs=0, num_predict=0, choices=choices)
    bench.run()
    finished = bench.finished("r1")
    kinds = [type(event).__name__ for event in bench.events]
    assert (finished.reason, finished.usage.completion_tokens) == (DoneReason.LENGTH, 0)
    assert kinds.count("PromptScored") == 1
    assert "Token" not in kinds


def test_elsewhere_no_tokens_mean_as_many_as_it_takes() -> None:
    assert LoopBench().ask("r1", "hello", num_predict=0) == "HELLO"
