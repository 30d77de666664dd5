"""The line that every request leaves, and what is not in it."""

import asyncio
import logging
from typing import Any

import pytest

from inference.telling import Telling
from models_app.ledger_journal import Begin, End, Figures
from models_app.models import User
from ollamasite.access_log import AccessLog
from ollamasite.request_context import RequestContext
from ollamasite.request_record import RequestRecord, current
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import api, model, node

__all__ = ["api", "model", "node"]

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "do not write this down"


@pytest.fixture(autouse=True)
def _application() -> None:
    """Have it built by now: that sets logging up, which takes away what a test listens with."""
    AsgiClient()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the facts of the access log's lines."""
    return [vars(record) for record in caplog.records if record.name == "ollamasite.access"]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_line_tells_who_asked_which_model_and_what_it_took(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    is_streamed: bool,
) -> None:
    caplog.set_level(logging.INFO)
    asked = {"model": model, "stream": is_streamed}
    messages = [{"role": "user", "content": SECRET}]
    answer = await api.post(f"/api/chat?q={SECRET}", {**asked, "messages": messages})

    [line] = lines(caplog)
    told = {
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "route": "api/chat",
        "status": 200,
        "dialect": "native",
        "user_id": alice.pk,
        "model": model,
        "kind": "chat",
        "outcome": "done",
        "tokens_in": 10,
        "tokens_out": 3,
        "decode_ms": 240,
    }
    assert {name: line[name] for name in told} == told
    assert line["duration_ms"] > 0
    assert len(line["engine_ids"]) == 1
    assert SECRET not in str([vars(record) for record in caplog.records])


async def test_secrets_in_paths_are_not_written_down(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ollamasite.access")
    await AsgiClient().get("/invite/sosecret?x=sosecret")
    await AsgiClient().get("/sosecret/of/nobody", headers={"authorization": "Bearer sosecret"})
    await AsgiClient().get("/static/sosecret.css")

    assert [line["route"] for line in lines(caplog)] == [
        "invite/<str:secret>",
        "unmatched",
        "static",
    ]
    assert "sosecret" not in str(lines(caplog))


async def test_end_of_an_answer_that_was_left_is_told_once(
    node: FakeNode, model: str, api: AsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """In the request's line, or in one of its own where the end comes after that."""
    caplog.set_level(logging.INFO)
    node.scripts.append(Script(is_held=True))
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "Hello"})
    await call.wait_for_text("Hello")
    await call.leave()

    def told() -> list[Any]:
        return [vars(record) for record in caplog.records if hasattr(record, "outcome")]

    async with asyncio.timeout(20):
        while not told():
            await asyncio.sleep(0.01)
    [ended], [line] = told(), lines(caplog)
    assert line["status"] == 200
    assert (ended["request_id"], ended["outcome"]) == (line["request_id"], "left")


async def test_call_without_a_request_of_its_own_has_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    begun = Begin(
        request_id="c",
        at_us=1,
        messages=("e",),
        user_id=7,
        user_name="alice",
        model_name="tiny:latest",
        model_digest="d" * 64,
        dialect="page",
        kind="chat",
    )
    token = current.set(RequestRecord("req_1", takes_calls=False))
    try:
        telling = Telling(begun)
    finally:
        current.reset(token)
    telling.tell(End(request_id="c", at_us=2, outcome="done", figures=Figures(tokens_out=3)))

    [line] = [vars(record) for record in caplog.records if record.name == "inference.telling"]
    assert (line["request_id"], line["user_id"], line["tokens_out"]) == ("req_1", 7, 3)


async def test_exception_of_the_application_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ollamasite.access")

    async def broken(*_: Any) -> None:
        raise ValueError(SECRET)

    client = AsgiClient()
    client._application = RequestContext(AccessLog(broken))
    with pytest.raises(ValueError, match=SECRET):
        await client.get("/api/tags")

    assert [line["status"] for line in lines(caplog) if "status" in line] == [500]
    assert any(record.exc_info for record in caplog.records)
