"""`_debug_render_only`: the prompt as the model would get it, in both routes (contract 1.2)."""

import json
from typing import Any

import pytest

from inference.api.answers import Answer
from inference.api.native_writers import ChatWriter, GenerateWriter, NativeWriter
from inference.messages import DoneReason, Finished, Generate, Load, Rendered
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

HELLO = [{"role": "user", "content": "Hello"}]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": "Hello"}),
    ("/api/chat", {"messages": HELLO}),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("stream", [True, False, None])
async def test_prompt_is_one_object_streamed_or_not(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: Any, stream: bool | None
) -> None:
    node.scripts.append(Script(rendered="<|im_start|>user\nHello"))
    sent = {"model": model, **body, "stream": stream, "_debug_render_only": True}
    answer = await api.post(path, sent)
    shown = answer.json()

    assert answer.content_type == "application/json; charset=utf-8"
    assert list(shown) == [
        "model",
        "created_at",
        "message" if path == "/api/chat" else "response",
        "done",
        "_debug_info",
    ]
    assert shown["done"] is False
    assert shown["_debug_info"] == {"rendered_template": "<|im_start|>user\nHello"}
    assert (await node.wait_for(Generate)).renders_only


async def test_nobody_has_said_anything(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = Script(rendered="x")
    sent = {"model": model, "_debug_render_only": True, "prompt": "x", "messages": HELLO}
    generate = (await api.post("/api/generate", sent)).json()
    chat = (await api.post("/api/chat", sent)).json()

    assert generate["response"] == ""
    assert chat["message"] == {"role": "", "content": ""}


@pytest.mark.parametrize("writer", [GenerateWriter("m"), ChatWriter("m")])
def test_images_are_counted(writer: NativeWriter) -> None:
    answer = Answer()
    answer.add(Rendered(request_id="r", text="[img-0][img-1]x", image_count=2))
    end = Finished(request_id="r", reason=DoneReason.STOP)
    shown = json.loads(writer.whole(answer, end, 1).content)

    assert shown["_debug_info"] == {"rendered_template": "[img-0][img-1]x", "image_count": 2}


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_nothing_is_rendered_unasked(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: Any
) -> None:
    answer = await api.post(path, {"model": model, **body, "_debug_render_only": False})

    assert "_debug_info" not in answer.text
    assert not (await node.wait_for(Generate)).renders_only


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_load_stays_a_load(node: FakeNode, model: str, api: AsgiClient, path: str) -> None:
    answer = await api.post(path, {"model": model, "_debug_render_only": True})

    assert answer.json()["done_reason"] == "load"
    assert len(node.got(Load)) == 1
