"""Every box of Ollama's document on OpenAI compatibility, ticked: sent, and its effect seen.

The boxes are those of the document of August 2024, ticked there or not, under its own headings.
Image URLs, which a site has to allow, are in tests/inference/api/test_image_urls.py.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from inference.messages import (
    ChatPrompt,
    Embed,
    FillPrompt,
    Generate,
    Token,
    TokenLogprob,
    ToolCall,
    TopToken,
)
from registry import manifests
from tests.conftest import MakeModel
from tests.contract.conftest import ABLE_TEMPLATE
from tests.fakes.engine import FAKE_WIDTH, FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.model_layers import add_layer
from tests.vision_files import write_image

PICTURE: Final = write_image("PNG")
DATA_URL: Final = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL: Final = Script(
    pieces=(Token(request_id="", tool_calls=(ToolCall(name="f", arguments={}, id="call_1"),)),)
)
LOGPROB: Final = TokenLogprob(token=b"I", logprob=-0.5, top=(TopToken(token=b"I", logprob=-0.5),))
LIKELY: Final = Script(pieces=(Token(request_id="", text="I", logprobs=(LOGPROB,)),))


def _choices(*texts: str) -> Script:
    return Script(pieces=tuple(Token(request_id="", text=t, choice=i) for i, t in enumerate(texts)))


@dataclass(frozen=True, kw_only=True)
class Box:
    """What is sent for a box, and what must be seen at the engine and in the answer."""

    more: Mapping[str, Any] = field(default_factory=dict)
    script: Script | None = None
    asked: Callable[[Any], bool] = lambda request: request is not None
    told: Callable[[Any], bool] = bool


def _sampling(name: str, value: Any) -> Box:
    return Box(more={name: value}, asked=lambda asked: getattr(asked.sampling, name) == value)


_SHARED: Final = {
    "`model`": Box(told=lambda told: told["model"] == "able:1b"),
    "Reproducible outputs": _sampling("seed", 7),
    "`frequency_penalty`": _sampling("frequency_penalty", 0.5),
    "`presence_penalty`": _sampling("presence_penalty", 0.5),
    "`seed`": _sampling("seed", 8),
    "`stop`": Box(more={"stop": ["END"]}, asked=lambda asked: "END" in asked.sampling.stop),
    "`temperature`": _sampling("temperature", 0.25),
    "`top_p`": _sampling("top_p", 0.5),
    "`max_tokens`": Box(
        more={"max_tokens": 2},
        asked=lambda asked: asked.sampling.num_predict == 2,
        told=lambda told: told["choices"][0]["finish_reason"] == "length",
    ),
    "`logit_bias`": Box(
        more={"logit_bias": {"7": -100}},
        asked=lambda asked: asked.sampling.logit_bias == ((7, -100.0),),
    ),
    "`user`": Box(more={"user": "anna"}),
}


def _parts(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def _text(number: int, text: str) -> dict[str, Any]:
    return {"type": "text", "text": f"{text} {number}"}


def _message(told: Any) -> Any:
    return told["choices"][0]["message"]


def _sees_picture(asked: Generate) -> bool:
    assert isinstance(asked.prompt, ChatPrompt)
    return asked.prompt.messages[-1].images == (PICTURE,)


_IMAGE_PART: Final = {"type": "image_url", "image_url": {"url": DATA_URL}}
_SEEN: Final = Box(more=_parts(_text(1, "What?"), _IMAGE_PART), asked=_sees_picture)
_OBJECT: Final = {"type": "json_object"}

CHAT: Final = {
    **_SHARED,
    "Chat completions": Box(told=lambda told: _message(told)["content"] == "Hello."),
    "Streaming": Box(more={"stream": True}, told=lambda told: told[-1] == "[DONE]"),
    "JSON mode": Box(
        more={"response_format": _OBJECT}, asked=lambda asked: bool(asked.json_schema)
    ),
    "Vision": _SEEN,
    "Tools": Box(
        more={"tools": [TOOL]},
        script=CALL,
        told=lambda told: _message(told)["tool_calls"][0]["id"] == "call_1",
    ),
    "Tools, streamed": Box(
        more={"tools": [TOOL], "stream": True},
        script=CALL,
        told=lambda told: told[0]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0,
    ),
    "Logprobs": Box(
        more={"logprobs": True, "top_logprobs": 1},
        script=LIKELY,
        told=lambda told: told["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.5,
    ),
    "Text `content`": Box(
        more={"messages": [{"role": "user", "content": "Why?"}]},
        asked=lambda asked: asked.prompt.messages[-1].content == "Why?",
    ),
    "Base64 encoded image": _SEEN,
    "Array of `content` parts": Box(
        more=_parts(_text(1, "a"), _text(2, "b")),
        asked=lambda asked: asked.prompt.messages[-1].content == "a 1\n\nb 2",
    ),
    "`response_format`": Box(
        more={
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": {"type": "array"}},
            }
        },
        asked=lambda asked: asked.json_schema == '{"type":"array"}',
    ),
    "`stream`": Box(more={"stream": False}, told=lambda told: told["object"] == "chat.completion"),
    "`tool_choice`": Box(
        more={"tools": [TOOL], "tool_choice": "required"},
        script=CALL,
        asked=lambda asked: asked.forced_tools == ("f",),
    ),
    "`n`": Box(
        more={"n": 2},
        script=_choices("a", "b"),
        told=lambda told: [c["message"]["content"] for c in told["choices"]] == ["a", "b"],
    ),
}
COMPLETIONS: Final = {
    **_SHARED,
    "Completions": Box(told=lambda told: told["choices"][0]["text"] == "Hello."),
    "Streaming": Box(more={"stream": True}, told=lambda told: told[-1] == "[DONE]"),
    "JSON mode": Box(
        more={"response_format": _OBJECT}, asked=lambda asked: bool(asked.json_schema)
    ),
    "Logprobs": Box(
        more={"logprobs": 1},
        script=LIKELY,
        told=lambda told: told["choices"][0]["logprobs"]["token_logprobs"] == [-0.5],
    ),
    "`prompt`": Box(more={"prompt": "Say"}, asked=lambda asked: "Say" in str(asked.prompt)),
    "`prompt`, several": Box(
        more={"prompt": ["a", "b"]},
        told=lambda told: [choice["index"] for choice in told["choices"]] == [0, 1],
    ),
    "`prompt`, tokens": Box(
        more={"prompt": [1, 2, 3]}, asked=lambda asked: asked.prompt.tokens == (1, 2, 3)
    ),
    "`stream`": Box(more={"stream": False}, told=lambda told: told["object"] == "text_completion"),
    "`suffix`": Box(
        more={"suffix": "end"},
        asked=lambda asked: isinstance(asked.prompt, FillPrompt) and asked.prompt.suffix == "end",
    ),
    "`best_of`": Box(
        more={"best_of": 2},
        script=Script(
            pieces=(
                Token(request_id="", text="a", logprobs=(TokenLogprob(token=b"a", logprob=-2.0),)),
                Token(
                    request_id="",
                    text="b",
                    choice=1,
                    logprobs=(TokenLogprob(token=b"b", logprob=-1.0),),
                ),
            )
        ),
        told=lambda told: [choice["text"] for choice in told["choices"]] == ["b"],
    ),
    "`echo`": Box(
        more={"echo": True},
        told=lambda told: told["choices"][0]["text"] == "HelloHello.",
    ),
    "`n`": Box(
        more={"n": 2},
        script=_choices("a", "b"),
        told=lambda told: [choice["text"] for choice in told["choices"]] == ["a", "b"],
    ),
}


def _widths(told: Any) -> list[int]:
    return [len(entry["embedding"]) for entry in told["data"]]


EMBEDDINGS: Final = {
    "`model`": Box(told=lambda told: told["model"] == "able:1b"),
    "string": Box(more={"input": "a"}, told=lambda told: _widths(told) == [FAKE_WIDTH]),
    "array of strings": Box(
        more={"input": ["a", "b"]}, told=lambda told: _widths(told) == [FAKE_WIDTH] * 2
    ),
    "array of tokens": Box(more={"input": [1, 2]}, told=lambda told: _widths(told) == [FAKE_WIDTH]),
    "array of token arrays": Box(
        more={"input": [[1, 2], [3]]}, told=lambda told: _widths(told) == [FAKE_WIDTH] * 2
    ),
    "`encoding format`": Box(
        more={"encoding_format": "base64"},
        told=lambda told: len(base64.b64decode(told["data"][0]["embedding"])) == 4 * FAKE_WIDTH,
    ),
    "`dimensions`": Box(more={"dimensions": 3}, told=lambda told: _widths(told) == [3]),
    "`user`": Box(more={"user": "anna"}),
}
ROUTES: Final[dict[str, tuple[dict[str, Any], Mapping[str, Box]]]] = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "Hello"}]}, CHAT),
    "/v1/completions": ({"prompt": "Hello"}, COMPLETIONS),
    "/v1/embeddings": ({"input": "Hello"}, EMBEDDINGS),
}
CASES: Final = [(route, name) for route, (_, boxes) in ROUTES.items() for name in boxes]


@pytest.fixture
def able(transactional_db: None, make_model: MakeModel) -> str:
    """A model that can do all that is asked for."""
    name = make_model("able:1b", template=ABLE_TEMPLATE)
    add_layer(name, manifests.PROJECTOR, b"a projector")
    return name


@pytest.mark.parametrize(("route", "name"), CASES, ids=[f"{r} {n}" for r, n in CASES])
async def test_box_is_ticked(
    node: FakeNode, api: AsgiClient, able: str, route: str, name: str
) -> None:
    base, boxes = ROUTES[route]
    box = boxes[name]
    if box.script is not None:
        node.scripts.append(box.script)
    answer = await api.post(route, {"model": able, **base, **box.more})
    is_streamed = answer.content_type.startswith("text/event-stream")

    assert answer.status == 200, answer.text
    assert box.told(answer.events() if is_streamed else answer.json()), answer.text
    asked = node.got(Embed if route == "/v1/embeddings" else Generate)[-1]
    assert box.asked(asked), asked


async def test_models_tell_when_they_were_changed_and_whose_they_are(
    node: FakeNode, api: AsgiClient, able: str
) -> None:
    listed = (await api.get("/v1/models")).json()
    one = (await api.get(f"/v1/models/{able}")).json()

    assert listed["data"] == [one]
    assert one["owned_by"] == "library"
    assert one["created"] > 1_700_000_000
