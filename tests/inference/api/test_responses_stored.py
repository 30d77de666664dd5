"""What `/v1/responses` stores: going on, fetching, listing, deleting, and for whom."""

from typing import Any

import pytest

from inference.messages import Generate, Token, ToolCall
from models_app.models import StoredResponse
from tests.contract.conftest import able_model
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.api.responses_events import events_of

__all__ = ["able_model"]

URL = "/v1/responses"
LIGHT = {"type": "function", "name": "light", "parameters": {"type": "object"}}
CALL = ToolCall(name="light", arguments={"on": True}, id="call_1")


async def ask(api: AsgiClient, model: str, text: Any = "Hello", **fields: Any) -> dict[str, Any]:
    answer = await api.post(URL, {"model": model, "input": text, **fields})
    assert answer.status == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def last_messages(node: FakeNode, count: int) -> list[Any]:
    prompt: Any = (await node.wait_for(Generate, count=count)).prompt
    return list(prompt.messages)


async def test_answer_can_be_fetched_as_it_was(node: FakeNode, model: str, api: AsgiClient) -> None:
    made = await ask(api, model, metadata={"a": "<b>"})
    found = await api.get(f"{URL}/{made['id']}")

    assert found.status == 200
    assert found.json() == made


async def test_streamed_answer_can_be_fetched_as_it_was(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    events = events_of(await api.post(URL, {"model": model, "input": "x", "stream": True}))
    made = events[-1]["response"]

    assert (await api.get(f"{URL}/{made['id']}")).json() == made


async def test_answer_that_is_not_to_be_stored_is_not(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    made = await ask(api, model, store=False)

    assert made["store"] is False
    assert (await api.get(f"{URL}/{made['id']}")).status == 404


async def test_site_that_keeps_nothing_says_so(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    settings.RESPONSES_KEPT_S = 0.0
    made = await ask(api, model)

    assert made["store"] is False
    assert (await api.get(f"{URL}/{made['id']}")).status == 404


async def test_input_that_is_too_large_to_be_stored_is_refused(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    settings.RESPONSES_BYTES = 200
    answer = await api.post(URL, {"model": model, "input": "x" * 300})

    assert answer.status == 400
    assert answer.json()["error"]["param"] == "store"
    await ask(api, model, "x" * 300, store=False)


async def test_conversation_goes_on(node: FakeNode, model: str, api: AsgiClient) -> None:
    first = await ask(api, model, "One", instructions="Be brief.")
    second = await ask(api, model, "Two", previous_response_id=first["id"])
    await ask(api, model, "Three", previous_response_id=second["id"], instructions="Be long.")

    assert second["previous_response_id"] == first["id"]
    assert [(m.role, m.content) for m in await last_messages(node, 3)] == [
        ("system", "Be long."),
        ("user", "One"),
        ("assistant", "Hello."),
        ("user", "Two"),
        ("assistant", "Hello."),
        ("user", "Three"),
    ]


async def test_conversation_can_go_on_without_new_input(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    first = await ask(api, model, "One")
    await ask(api, model, None, previous_response_id=first["id"])

    assert [m.content for m in await last_messages(node, 2)] == ["One", "Hello."]


async def test_what_was_thought_and_called_goes_on_too(
    node: FakeNode, able_model: str, api: AsgiClient
) -> None:
    pieces = (
        Token(request_id="", thinking="Hm."),
        Token(request_id="", text="I will."),
        Token(request_id="", tool_calls=(CALL, CALL)),
    )
    node.scripts.append(Script(pieces=pieces))
    first = await ask(api, able_model, "Light!", tools=[LIGHT])
    output = [{"type": "function_call_output", "call_id": "call_1", "output": "on"}]
    await ask(api, able_model, output, tools=[LIGHT], previous_response_id=first["id"])
    _, assistant, tool = await last_messages(node, 2)

    assert (assistant.thinking, assistant.content) == ("Hm.", "I will.")
    assert [(call.id, call.index) for call in assistant.tool_calls] == [
        ("call_1", 0),
        ("call_1", 1),
    ]
    assert assistant.tool_calls[0].arguments == {"on": True}
    assert (tool.role, tool.content) == ("tool", "on")
    assert (tool.tool_name, tool.tool_call_id) == ("light", "call_1")


@pytest.mark.parametrize("previous", ["resp_nope", "", "resp_" + "0" * 32])
async def test_unknown_previous_response_is_refused(
    node: FakeNode, model: str, api: AsgiClient, previous: str
) -> None:
    body = {"model": model, "input": "x", "previous_response_id": previous}
    answer = await api.post(URL, body)
    if not previous:  # none at all
        assert answer.status == 200
        return
    error = answer.json()["error"]

    assert answer.status == 400
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"


async def test_somebody_elses_answer_looks_like_none(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient
) -> None:
    made = await ask(api, model)
    path = f"{URL}/{made['id']}"
    missing = f"{URL}/resp_{'0' * 32}"

    for method, below in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
    ]:
        theirs = await bob_api.request(method, path + below)
        nobodys = await bob_api.request(method, missing + below)
        assert (theirs.status, nobodys.status) == (404, 404)
        assert theirs.text.replace(made["id"], "ID") == nobodys.text.replace(
            f"resp_{'0' * 32}", "ID"
        )
    body = {"model": model, "input": "x", "previous_response_id": made["id"]}
    assert (await bob_api.post(URL, body)).json()["error"]["code"] == "previous_response_not_found"
    assert (await api.get(path)).status == 200


async def test_deleted_answer_is_gone(node: FakeNode, model: str, api: AsgiClient) -> None:
    made = await ask(api, model)
    path = f"{URL}/{made['id']}"
    deleted = await api.request("DELETE", path)

    assert deleted.json() == {"id": made["id"], "object": "response", "deleted": True}
    assert (await api.get(path)).status == 404
    error = (await api.request("DELETE", path)).json()["error"]
    assert error["message"] == f"Response with id '{made['id']}' not found."


async def test_synchronous_answer_cannot_be_cancelled(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    made = await ask(api, model)
    answer = await api.post(f"{URL}/{made['id']}/cancel")

    assert answer.status == 400
    assert answer.json()["error"]["message"] == "Cannot cancel a synchronous response."


async def test_input_items_are_listed_the_last_one_first(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    items = [{"role": "user", "content": text} for text in "abc"]
    made = await ask(api, model, items)
    path = f"{URL}/{made['id']}/input_items"
    page = (await api.get(f"{path}?limit=2")).json()
    rest = (await api.get(f"{path}?limit=2&after={page['last_id']}")).json()
    texts = [item["content"][0]["text"] for item in (*page["data"], *rest["data"])]

    assert (page["object"], page["has_more"], rest["has_more"]) == ("list", True, False)
    assert page["first_id"] == page["data"][0]["id"]
    assert texts == ["c", "b", "a"]


async def test_input_items_can_be_listed_in_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    made = await ask(api, model, [{"role": "user", "content": text} for text in "abc"])
    page = (await api.get(f"{URL}/{made['id']}/input_items?order=asc")).json()

    assert [item["content"][0]["text"] for item in page["data"]] == ["a", "b", "c"]


async def test_input_items_are_those_of_the_answer_alone(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    first = await ask(api, model, "One")
    second = await ask(api, model, "Two", previous_response_id=first["id"])
    page = (await api.get(f"{URL}/{second['id']}/input_items")).json()

    assert [item["content"][0]["text"] for item in page["data"]] == ["Two"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=msg_nope", "after"),
    ],
)
async def test_bad_page_is_refused(
    node: FakeNode, model: str, api: AsgiClient, query: str, param: str
) -> None:
    made = await ask(api, model)
    answer = await api.get(f"{URL}/{made['id']}/input_items?{query}")

    assert answer.status == 400
    assert answer.json()["error"]["param"] == param


async def test_named_items_are_found(node: FakeNode, model: str, api: AsgiClient) -> None:
    made = await ask(api, model, "One")
    asked = (await api.get(f"{URL}/{made['id']}/input_items")).json()["data"][0]
    answered = made["output"][0]
    items = [
        {"type": "item_reference", "id": asked["id"]},
        {"id": answered["id"]},
        {"role": "user", "content": "Two"},
    ]
    await ask(api, model, items)

    assert [m.content for m in await last_messages(node, 2)] == ["One", "Hello.", "Two"]


async def test_named_items_of_somebody_else_are_not_found(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient
) -> None:
    made = await ask(api, model, "One")
    item_id = made["output"][0]["id"]
    body = {"model": model, "input": [{"type": "item_reference", "id": item_id}]}
    answer = await bob_api.post(URL, body)

    assert answer.status == 400
    assert answer.json()["error"]["message"] == f"Item with id '{item_id}' not found."
    assert answer.json()["error"]["param"] == "input[0]"


@pytest.mark.parametrize("query", ["stream=true", "starting_after=3", "include[]=everything"])
async def test_stored_answer_comes_whole_or_not_at_all(
    node: FakeNode, model: str, api: AsgiClient, query: str
) -> None:
    made = await ask(api, model)
    answer = await api.get(f"{URL}/{made['id']}?{query}")

    assert answer.status == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0].removesuffix("[]")


async def test_input_tokens_are_counted_and_nothing_is_stored(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(rendered="one two three"))
    answer = await api.post(f"{URL}/input_tokens", {"model": model, "input": "x"})
    request = await node.wait_for(Generate)

    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 3}
    assert (request.renders_only, request.counts_tokens, request.truncate) == (True, True, False)
    assert await StoredResponse.objects.acount() == 0


async def test_client_that_leaves_leaves_nothing_stored(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), is_held=True))
    call = api.open("POST", URL, data={"model": model, "input": "x", "stream": True})
    await call.wait_for_text("output_text.delta")
    await call.leave()

    assert await StoredResponse.objects.acount() == 0


async def test_stranger_is_turned_away(node: FakeNode, model: str, stranger: AsgiClient) -> None:
    assert (await stranger.post(URL, {"model": model, "input": "x"})).status == 401
    assert (await stranger.get(f"{URL}/resp_x")).status == 401


async def test_naming_many_items_is_refused_without_looking_for_each(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    named = [{"type": "item_reference", "id": f"msg_{number:032x}0001"} for number in range(2000)]
    answer = await api.post(URL, {"model": model, "input": named})

    assert answer.status == 400
    assert "too long" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "input"


async def test_what_the_answer_repeats_counts_as_stored(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    settings.RESPONSES_BYTES = 1000
    answer = await api.post(URL, {"model": model, "input": "x", "instructions": "y" * 1000})

    assert answer.status == 400
    assert answer.json()["error"]["param"] == "store"


async def test_site_without_room_for_answers_says_that_it_keeps_none(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    settings.RESPONSES_BYTES = 0

    assert (await ask(api, model))["store"] is False
