"""The body of `/v1/completions` and the requests that come of it (contract 3.5)."""

from typing import Any, Final

import pytest
from openai.types.completion_create_params import CompletionCreateParamsStreaming

from inference.api.openai.completions_schemas import AskedCompletions, CompletionBody
from inference.requests import CompletionRequest
from ollamasite.bodies import decode
from ollamasite.errors import BadRequest

# Every field of the SDK: what is done with it.
_WORKS: Final = (
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n "
    "presence_penalty seed stop stream stream_options suffix temperature top_p"
)
WORKS: Final = frozenset(_WORKS.split())
TAKEN: Final = frozenset({"user"})  # tells OpenAI who asks; it changes no answer


def asked(**fields: Any) -> AskedCompletions:
    body = {"model": "m", "prompt": "p", **fields}
    return decode(body, CompletionBody, "openai.CompletionRequest").to_request()


def only(**fields: Any) -> CompletionRequest:
    [request] = asked(**fields).requests
    return request


def refusal(**fields: Any) -> tuple[str, str]:
    with pytest.raises(BadRequest) as caught:
        asked(**fields)
    return caught.value.param, caught.value.message


def test_every_field_of_the_sdk_is_in_a_table() -> None:
    assert set(CompletionCreateParamsStreaming.__annotations__) == WORKS | TAKEN


def test_every_field_of_the_tables_is_read() -> None:
    assert set(CompletionBody.__struct_fields__) >= WORKS | TAKEN


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("a", [("a", ())]),
        ("", [("", ())]),
        (None, [("", ())]),
        (["a", "b"], [("a", ()), ("b", ())]),
        ([5, 6], [("", (5, 6))]),
        ([[5], [6, 7]], [("", (5,)), ("", (6, 7))]),
    ],
    ids=str,
)
def test_every_form_of_prompt_is_understood(value: Any, prompts: Any) -> None:
    requests = asked(prompt=value).requests

    assert [(request.prompt, request.tokens) for request in requests] == prompts


@pytest.mark.parametrize(
    "value", [[], [[]], 5, True, {}, ["a", 5], [1.5], [True], [-1], [2**31], [[5], []], [["a"]]]
)
def test_prompt_of_another_kind_is_refused(value: Any) -> None:
    param, message = refusal(prompt=value)

    assert (param, message.split(",")[0]) == ("prompt", "prompt must be a string")


def test_template_is_applied_unless_the_prompt_is_raw() -> None:
    assert not only().raw
    assert only(raw=True).raw


def test_absent_fields_have_the_defaults_of_openai() -> None:
    assert only().options == {
        "temperature": 1.0,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


def test_null_is_the_same_as_absent() -> None:
    nothing = dict.fromkeys(WORKS - {"model", "prompt"})

    assert asked(**nothing) == asked()


def test_sampling_fields_become_options() -> None:
    request = only(
        max_tokens=7,
        seed=3,
        stop="x",
        temperature=0,
        top_p=0.5,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={"9": -100},
        options={"top_k": 5, "seed": 4},
    )

    assert request.options == {
        "num_predict": 7,
        "seed": 3,
        "stop": ["x"],
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "top_k": 5,
    }
    assert request.logit_bias == ((9, -100.0),)


def test_top_p_of_zero_is_none() -> None:
    assert only(top_p=0).options["top_p"] == 1.0


def test_extra_fields_are_read() -> None:
    request = only(options={"num_ctx": 512}, keep_alive="1m", think="low")

    assert request.options["num_ctx"] == 512
    assert request.keep_alive is not None
    assert (request.keep_alive.seconds, request.think) == (60, "low")


def test_suffix_is_passed_on() -> None:
    assert only(suffix="end").suffix == "end"


@pytest.mark.parametrize(
    "others", [{"echo": True}, {"raw": True}, {"prompt": [1, 2]}, {"prompt": [[1]]}], ids=str
)
def test_suffix_needs_a_prompt_that_is_put_together_here(others: Any) -> None:
    param, message = refusal(suffix="end", **others)

    assert param == "suffix"
    assert message.startswith('"suffix" cannot be used with ')


def test_echo_alone_scores_nothing_and_keeps_the_template() -> None:
    request = only(echo=True)

    assert (request.raw, request.scores_prompt, request.truncate) == (False, False, True)


@pytest.mark.parametrize("others", [{"logprobs": 0}, {"max_tokens": 0}], ids=str)
def test_scored_prompt_is_raw_and_whole(others: Any) -> None:
    request = only(echo=True, **others)

    assert (request.raw, request.scores_prompt, request.truncate) == (True, True, False)


def test_echo_of_token_ids_gets_their_text_from_their_scores() -> None:
    request = only(echo=True, prompt=[1, 2])

    assert (request.tokens, request.scores_prompt) == ((1, 2), True)


def test_logprobs_without_echo_score_no_prompt() -> None:
    request = only(logprobs=5)

    assert (request.top_logprobs, request.scores_prompt, request.raw) == (5, False, False)


def test_best_of_generates_more_than_it_shows_and_needs_log_probabilities() -> None:
    found = asked(n=2, best_of=5)

    assert (found.shown_choices, found.top_logprobs) == (2, None)
    assert (found.requests[0].choices, found.requests[0].top_logprobs) == (5, 0)


def test_best_of_n_is_no_choice_and_can_be_streamed() -> None:
    found = asked(n=2, best_of=2, stream=True)

    assert (found.requests[0].choices, found.requests[0].top_logprobs) == (2, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 17}, "n"),
        ({"n": 16, "prompt": ["a"] * 9}, "n"),
        ({"best_of": 0}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 17}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 16, "prompt": ["a"] * 9}, "best_of"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"stop": [1]}, "stop"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused_by_name(fields: Any, param: str) -> None:
    assert refusal(**fields)[0] == param


@pytest.mark.parametrize(
    ("stop", "go_type"),
    [
        (5, "float64"),
        (["a", 1.5], "float64"),
        ([True], "bool"),
        ([None], "<nil>"),
        ([[]], "[]interface {}"),
        ({}, "map[string]interface {}"),
    ],
    ids=str,
)
def test_stop_that_is_no_string_is_refused_in_the_words_of_ollama(stop: Any, go_type: str) -> None:
    assert refusal(stop=stop)[1] == f"invalid type for 'stop' field: {go_type}"


def test_as_many_prompts_and_answers_as_there_may_be() -> None:
    found = asked(prompt=["a"] * 64, n=2)

    assert sum(request.choices for request in found.requests) == 128
