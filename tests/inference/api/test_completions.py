"""`POST /v1/completions` (contract 3.5): prompts in every form, choices, scores, streams."""

import asyncio
from typing import Any

import pytest

from inference.messages import (
    Cancel,
    ChatPrompt,
    ChoiceEnded,
    DoneReason,
    FailureCode,
    FillPrompt,
    Generate,
    Load,
    PromptScored,
    RawPrompt,
    Token,
    TokenLogprob,
    TokensPrompt,
    TopToken,
    Unload,
    Usage,
)
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

PATH = "/v1/completions"
KINDS: list[Any] = [
    True, 3, -1, 0, 2.5, "x", "", [], {}, ["x"], [1], [["x"]], [[1]], [[]], None, 2**62
]  # fmt: skip
FIELDS = (
    "model prompt suffix stream stream_options max_tokens seed stop temperature top_p "
    "frequency_penalty presence_penalty logprobs echo n best_of logit_bias user raw options "
    "keep_alive think"
)


def scored(*texts: str) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token=text.encode(), logprob=-1.0) for text in texts)


def said(text: str, logprob: float = -0.5, *, choice: int = 0) -> Token:
    [top] = (TopToken(token=b"top", logprob=-0.1),)
    found = TokenLogprob(token=text.encode(), logprob=logprob, top=(top,))
    return Token(request_id="", text=text, choice=choice, logprobs=(found,))


def ended(choice: int, reason: DoneReason = DoneReason.STOP) -> ChoiceEnded:
    return ChoiceEnded(request_id="", choice=choice, reason=reason)


async def whole(api: AsgiClient, model: str, **fields: Any) -> Any:
    answer = await api.post(PATH, {"model": model, "prompt": "Hi", **fields})
    assert answer.status == 200, answer.text
    return answer.json()


async def chunks_of(api: AsgiClient, model: str, **fields: Any) -> list[Any]:
    body = {"model": model, "prompt": "Hi", "stream": True, **fields}
    *chunks, done = (await api.post(PATH, body)).events()
    assert done == "[DONE]"
    return chunks


# ------------------------------------------------------------------ shapes


async def test_whole_answer_is_one_object(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "prompt": "Hi", "user": "me"})
    body = answer.json()

    assert answer.content_type == "application/json"
    assert answer.body.endswith(b"}\n")
    assert body.pop("id").startswith("cmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "object": "text_completion",
        "model": model,
        "system_fingerprint": "fp_ollama",
        "choices": [{"text": "Hello.", "index": 0, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_chunks_are_as_recorded(node: FakeNode, model: str, api: AsgiClient) -> None:
    chunks = await chunks_of(api, model)

    keys = ["id", "object", "created", "choices", "model", "system_fingerprint"]
    assert [list(chunk) for chunk in chunks] == [keys] * 3
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert [chunk["choices"] for chunk in chunks] == [
        [{"text": "Hello", "index": 0, "finish_reason": None, "logprobs": None}],
        [{"text": ".", "index": 0, "finish_reason": None, "logprobs": None}],
        [{"text": "", "index": 0, "finish_reason": "stop", "logprobs": None}],
    ]


async def test_usage_comes_last_where_it_is_wished(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    *others, last = await chunks_of(api, model, stream_options={"include_usage": True})

    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 13
    assert [chunk["usage"] for chunk in others] == [None] * 3


async def test_stream_has_its_headers(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(queue_ns=7_000_000, queue_position=2))
    answer = await api.post(PATH, {"model": model, "prompt": "Hi", "stream": True})

    assert answer.content_type == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    assert (answer.headers["x-queue-ms"], answer.headers["x-queue-position"]) == ("7", "2")


async def test_last_words_of_the_engine_are_sent(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), last_text="b", reason=DoneReason.LENGTH))
    chunks = await chunks_of(api, model)

    found = [
        (chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks
    ]
    assert found == [("a", None), ("b", None), ("", "length")]


async def test_thinking_is_beside_the_text(node: FakeNode, model: str, api: AsgiClient) -> None:
    script = Script(pieces=(Token(request_id="", thinking="Hm."), "Yes"))
    node.scripts.extend([script, script])
    [choice] = (await whole(api, model))["choices"]
    first, second, _ = await chunks_of(api, model)

    assert (choice["text"], choice["reasoning"]) == ("Yes", "Hm.")
    assert (first["choices"][0]["text"], first["choices"][0]["reasoning"]) == ("", "Hm.")
    assert "reasoning" not in second["choices"][0]


# ------------------------------------------------------------------ prompts


async def test_template_is_applied_to_a_text(node: FakeNode, model: str, api: AsgiClient) -> None:
    await whole(api, model)
    prompt = (await node.wait_for(Generate)).prompt

    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[-1].content == "Hi"


async def test_raw_text_is_sent_as_it_is(node: FakeNode, model: str, api: AsgiClient) -> None:
    await whole(api, model, raw=True)

    assert (await node.wait_for(Generate)).prompt == RawPrompt(text="Hi")


async def test_token_ids_are_computed_as_they_are(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await whole(api, model, prompt=[[5, 6], [7]])
    await node.wait_for(Generate, count=2)

    assert [request.prompt for request in node.got(Generate)] == [
        TokensPrompt(tokens=(5, 6)),
        TokensPrompt(tokens=(7,)),
    ]


async def test_suffix_is_filled_up_to(
    node: FakeNode, model: str, api: AsgiClient, make_fillable: str
) -> None:
    await whole(api, make_fillable, suffix="end")
    prompt = (await node.wait_for(Generate)).prompt

    assert isinstance(prompt, FillPrompt)
    assert (prompt.prefix, prompt.suffix) == ("Hi", "end")


@pytest.fixture
def make_fillable(transactional_db: None, make_model: Any) -> str:
    return str(make_model("fills", template="<P>{{ .Prompt }}<S>{{ .Suffix }}<M>"))


async def test_empty_prompt_loads(node: FakeNode, model: str, api: AsgiClient) -> None:
    body = await whole(api, model, prompt="", n=2)
    await node.wait_for(Load)

    assert [(c["text"], c["finish_reason"]) for c in body["choices"]] == [("", "load")] * 2
    assert body["usage"]["total_tokens"] == 0


async def test_empty_prompt_loads_in_a_stream(node: FakeNode, model: str, api: AsgiClient) -> None:
    [chunk] = await chunks_of(api, model, prompt=None)

    assert chunk["choices"][0]["finish_reason"] == "load"


async def test_empty_prompt_that_is_kept_no_time_unloads(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = await whole(api, model, prompt="", keep_alive=0)
    await node.wait_for(Unload)

    assert body["choices"][0]["finish_reason"] == "unload"


async def test_prompts_are_answered_in_their_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.extend([Script(pieces=("a",), pause_s=0.05), Script(pieces=("b",))])
    body = await whole(api, model, prompt=["first", "second"])

    assert [(c["index"], c["text"]) for c in body["choices"]] == [(0, "a"), (1, "b")]
    assert body["usage"]["total_tokens"] == 26


async def test_index_counts_choices_of_prompts(node: FakeNode, model: str, api: AsgiClient) -> None:
    pieces = ("a", Token(request_id="", text="b", choice=1), ended(1), ended(0))
    node.scripts.extend([Script(pieces=pieces), Script(pieces=pieces, reason=DoneReason.LENGTH)])
    chunks = await chunks_of(api, model, prompt=["x", "y"], n=2)

    choices = [chunk["choices"][0] for chunk in chunks]
    texts: dict[int, str] = {}
    for choice in choices:
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    ends = sorted(c["index"] for c in choices if c["finish_reason"] == "stop")
    assert texts == {0: "a", 1: "b", 2: "a", 3: "b"}
    assert ends == [0, 1, 2, 3]


async def test_prompts_are_computed_at_the_same_time(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.extend([Script(pieces=("a",), is_held=True), Script(pieces=("b",), is_held=True)])
    body = {"model": model, "prompt": ["x", "y"], "stream": True}
    call = api.open("POST", PATH, data=body)
    await call.wait_for_text('"text":"a"')
    await call.wait_for_text('"text":"b"')
    await call.leave()


async def test_all_are_ended_when_the_client_leaves(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.default = Script(pieces=("a",), is_held=True)
    call = api.open("POST", PATH, data={"model": model, "prompt": ["x", "y", "z"]})
    await node.wait_for(Generate, count=3)
    await call.leave()

    await node.wait_for(Cancel, count=3)


async def test_all_are_ended_when_one_fails(node: FakeNode, model: str, api: AsgiClient) -> None:
    failing = Script(pieces=(), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    node.scripts.extend([Script(pieces=(), is_held=True), failing])
    answer = await api.post(PATH, {"model": model, "prompt": ["x", "y"]})

    assert (answer.status, answer.json()["error"]["message"]) == (500, "gone")
    await node.wait_for(Cancel)


async def test_all_are_ended_when_one_is_refused_at_the_start(
    node: FakeNode, model: str, api: AsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    node.default = Script(pieces=(), failure=FailureCode.BAD_REQUEST, failure_message="no")
    answer = await api.post(PATH, {"model": model, "prompt": ["x", "y", "z"], "stream": True})
    await asyncio.sleep(0)

    assert (answer.status, answer.json()["error"]["message"]) == (400, "no")
    assert "never retrieved" not in caplog.text


async def test_late_failure_is_an_event_without_an_end(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED))
    answer = await api.post(PATH, {"model": model, "prompt": "x", "stream": True})
    *_, last = answer.events()

    assert answer.status == 200
    assert list(last) == ["error"]


# ------------------------------------------------------------------ log probabilities


async def test_log_probabilities_have_their_own_shape(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(said("Hel"), said("lo"))))
    body = await whole(api, model, logprobs=1)

    assert body["choices"][0]["logprobs"] == {
        "tokens": ["Hel", "lo"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"top": -0.1, "Hel": -0.5}, {"top": -0.1, "lo": -0.5}],
        "text_offset": [0, 3],
    }


async def test_streamed_log_probabilities_go_on_from_chunk_to_chunk(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(said("Hel"), said("lo"))))
    chunks = await chunks_of(api, model, logprobs=0)

    found = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [one and one["text_offset"] for one in found] == [[0], [3], None]


async def test_best_of_shows_the_most_probable(node: FakeNode, model: str, api: AsgiClient) -> None:
    # The second has the least sum and the greatest mean.
    pieces: tuple[Token | ChoiceEnded, ...] = (
        said("x", -2.0),
        *(said("y", -1.0, choice=1) for _ in range(3)),
        said("z", -3.0, choice=2),
        *map(ended, range(3)),
    )
    node.scripts.append(Script(pieces=pieces))
    body = await whole(api, model, n=2, best_of=3)

    assert [(c["index"], c["text"]) for c in body["choices"]] == [(0, "yyy"), (1, "x")]
    assert [choice["logprobs"] for choice in body["choices"]] == [None, None]
    assert (await node.wait_for(Generate)).choices == 3


# ------------------------------------------------------------------ echo


async def test_echo_puts_the_prompt_in_front(node: FakeNode, model: str, api: AsgiClient) -> None:
    body = await whole(api, model, echo=True)

    assert body["choices"][0]["text"] == "HiHello."
    assert not (await node.wait_for(Generate)).scores_prompt


async def test_streamed_echo_is_the_first_chunk_of_every_choice(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a", ended(0), ended(1))))
    chunks = await chunks_of(api, model, echo=True, n=2)

    found = [(c["choices"][0]["index"], c["choices"][0]["text"]) for c in chunks]
    assert found == [(0, "Hi"), (0, "a"), (0, ""), (1, "Hi"), (1, "")]


async def test_scores_of_the_prompt_are_in_front_of_those_of_the_answer(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    scores = PromptScored(request_id="", logprobs=scored("<s>", " H", "i"))
    node.scripts.append(Script(pieces=(scores, said("!"))))
    [choice] = (await whole(api, model, echo=True, logprobs=1))["choices"]

    assert choice["text"] == "Hi!"
    assert choice["logprobs"] == {
        "tokens": ["<s>", " H", "i", "!"],
        "token_logprobs": [None, -1.0, -1.0, -0.5],
        "top_logprobs": [None, {" H": -1.0}, {"i": -1.0}, {"top": -0.1, "!": -0.5}],
        "text_offset": [0, 0, 1, 2],
    }


async def test_streamed_scores_come_with_the_prompt(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    scores = PromptScored(request_id="", logprobs=scored("H", "i"))
    node.scripts.append(Script(pieces=(scores, said("!"))))
    chunks = await chunks_of(api, model, echo=True, logprobs=0)

    found = [chunk["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in found] == ["Hi", "!", ""]
    assert found[0]["logprobs"]["token_logprobs"] == [None, -1.0]
    assert found[1]["logprobs"]["text_offset"] == [2]


async def test_prompt_alone_can_be_scored(node: FakeNode, model: str, api: AsgiClient) -> None:
    scores = PromptScored(request_id="", logprobs=scored("H", "i"))
    script = Script(pieces=(scores,), reason=DoneReason.LENGTH)
    node.scripts.extend([script, script])
    asked = {"echo": True, "logprobs": 0, "max_tokens": 0}
    [choice] = (await whole(api, model, **asked))["choices"]
    chunks = await chunks_of(api, model, **asked)

    assert (choice["text"], choice["finish_reason"]) == ("Hi", "length")
    assert choice["logprobs"]["tokens"] == ["H", "i"]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hi", ""]
    assert (await node.wait_for(Generate)).sampling.num_predict == 0


async def test_text_of_token_ids_is_what_their_scores_say(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    scores = PromptScored(request_id="", logprobs=scored("H", "i"))
    node.scripts.append(Script(pieces=(scores, "!")))
    [choice] = (await whole(api, model, prompt=[5, 6], echo=True))["choices"]

    assert (choice["text"], choice["logprobs"]) == ("Hi!", None)


# ------------------------------------------------------------------ usage, errors


async def test_usage_is_added_up(node: FakeNode, model: str, api: AsgiClient) -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=6, reasoning_tokens=3)
    node.scripts.extend([Script(usage=usage), Script(usage=usage)])
    body = await whole(api, model, prompt=["x", "y"])

    assert body["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 8,
        "total_tokens": 28,
        "prompt_tokens_details": {"cached_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1.5]}, "prompt"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"suffix": "x", "echo": True}, "suffix"),
    ],
    ids=str,
)
async def test_refusal_names_the_field(
    node: FakeNode, model: str, api: AsgiClient, fields: Any, param: str
) -> None:
    answer = await api.post(PATH, {"model": model, "prompt": "x", **fields})
    error = answer.json()["error"]

    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_missing_model_is_not_found(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": "nope", "prompt": "x"})

    assert (answer.status, answer.json()["error"]["message"]) == (404, "model 'nope' not found")


async def test_empty_body_is_eof(model: str, api: AsgiClient) -> None:
    answer = await api.request("POST", PATH)

    assert (answer.status, answer.json()["error"]["message"]) == (400, "EOF")


@pytest.mark.parametrize("value", KINDS, ids=str)
async def test_no_kind_of_value_is_the_servers_fault(
    node: FakeNode, model: str, api: AsgiClient, value: Any
) -> None:
    node.default = Script()
    for field in FIELDS.split():
        answer = await api.post(PATH, {"model": model, "prompt": "x", field: value})

        assert answer.status in {200, 400, 404}, (field, answer.text)
