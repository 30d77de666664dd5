"""`input` of `/v1/responses`: items in every form, and the conversation they make."""

from typing import Any

import pytest

from inference.api.responses.items import image_addresses, named_items, read_input
from inference.api.responses.messages import to_messages
from inference.messages import ChatMessage
from inference.responses import ItemIds
from ollamasite.errors import BadRequest

CALL = {"type": "function_call", "call_id": "c1", "name": "light", "arguments": '{"on": true}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "on"}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}


def items_of(*items: Any) -> list[dict[str, Any]]:
    return read_input(list(items), ItemIds(), {})


def messages_of(*items: Any) -> tuple[ChatMessage, ...]:
    return to_messages(None, items_of(*items), {})


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_text_is_a_message_of_the_user() -> None:
    [item] = read_input("Hello", ItemIds(), {})

    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello"}],
    }


def test_assistants_text_is_output_text() -> None:
    [item] = items_of(said("assistant", "Hello"))

    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": []}]


def test_every_item_has_an_id_of_its_own() -> None:
    ids = ItemIds()
    items = read_input([said("user", "a"), CALL, OUTPUT, THOUGHT], ids, {})

    assert len({item["id"] for item in items}) == 4
    assert all(ids.response_id.removeprefix("resp_") in item["id"] for item in items)


def test_given_id_and_status_stay() -> None:
    [item] = items_of({**said("assistant", "x"), "id": "msg_mine", "status": "incomplete"})

    assert (item["id"], item["status"]) == ("msg_mine", "incomplete")


def test_parts_of_text_are_paragraphs() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]

    assert messages_of(said("user", parts))[0].content == "a\n\nb"


def test_refusal_is_what_the_assistant_said() -> None:
    parts = [{"type": "refusal", "refusal": "No."}]

    assert messages_of(said("assistant", parts))[0].content == "No."


def test_developer_is_system() -> None:
    assert messages_of(said("developer", "x"))[0].role == "system"


def test_instructions_come_first() -> None:
    messages = to_messages("Be brief.", items_of(said("user", "x")), {})

    assert [message.role for message in messages] == ["system", "user"]


def test_thinking_and_calls_join_the_assistants_message() -> None:
    [message, tool] = messages_of(THOUGHT, said("assistant", "I will."), CALL, CALL, OUTPUT)

    assert (message.thinking, message.content) == ("Hm.", "I will.")
    assert [call.index for call in message.tool_calls] == [0, 1]
    assert (tool.role, tool.tool_name, tool.tool_call_id) == ("tool", "light", "c1")


def test_call_alone_is_a_message_of_the_assistant() -> None:
    user, call, _ = messages_of(said("user", "x"), CALL, OUTPUT)

    assert (user.role, call.role, call.content) == ("user", "assistant", "")
    assert call.tool_calls[0].arguments == {"on": True}


def test_thinking_behind_an_answer_begins_a_new_message() -> None:
    first, second = messages_of(said("assistant", "a"), THOUGHT, CALL)

    assert (first.tool_calls, second.thinking) == ((), "Hm.")


def test_thinking_of_which_nothing_came_is_kept() -> None:
    thought, user = messages_of(THOUGHT, said("user", "Go on."))

    assert (thought.role, thought.thinking, thought.content) == ("assistant", "Hm.", "")
    assert user.role == "user"


@pytest.mark.parametrize(
    "fields",
    [
        {"summary": [], "encrypted_content": "Hm."},
        {"summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAAAA"},
    ],
)
def test_thinking_is_read_from_where_it_is(fields: dict[str, Any]) -> None:
    assert messages_of({"type": "reasoning", **fields})[0].thinking == "Hm."


def test_output_of_a_function_may_have_parts() -> None:
    parts = [{"type": "input_text", "text": "on"}, {"type": "input_text", "text": "bright"}]
    *_, tool = messages_of(CALL, {**OUTPUT, "output": parts})

    assert tool.content == "on\n\nbright"


def test_image_by_web_address_is_what_was_fetched() -> None:
    url = "https://pictures.example/cat.png"
    items = items_of(said("user", [{"type": "input_image", "image_url": url}]))
    [message] = to_messages(None, items, {url: b"png"})

    assert image_addresses(items) == [url]
    assert message.images == (b"png",)


def test_named_items_are_those_without_another_type() -> None:
    items = [{"id": "a"}, {"type": "item_reference", "id": "b"}, {**said("user", "x"), "id": "c"}]

    assert named_items(items) == ["a", "b"]
    assert named_items("text") == []


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (5, "input"),
        ({"role": "user"}, "input"),
        (["text"], "input[0]"),
        ([{"type": "item_reference", "id": "x"}], "input[0]"),
        ([{}], "input[0].id"),
        ([{"type": ["x"]}], "input[0].type"),
        ([{"type": "web_search_call", "id": "x"}], "input[0].type"),
        ([{"type": "computer_call"}], "input[0].type"),
        ([said("robot", "x")], "input[0].role"),
        ([said("user", "x"), said("user", None)], "input[1].content"),
        ([said("user", [{"type": "input_file"}])], "input[0].content[0].type"),
        ([said("user", [{"type": "input_audio"}])], "input[0].content[0].type"),
        ([said("user", [{"type": {}}])], "input[0].content[0].type"),
        ([said("user", ["x"])], "input[0].content[0]"),
        ([said("user", [{"type": "input_text"}])], "input[0].content[0].text"),
        (
            [said("user", [{"type": "input_image", "file_id": "f"}])],
            "input[0].content[0].file_id",
        ),
        ([said("user", [{"type": "input_image"}])], "input[0].content[0].image_url"),
        (
            [said("user", [{"type": "input_image", "image_url": "x", "detail": "most"}])],
            "input[0].content[0].detail",
        ),
        (
            [said("user", [{"type": "input_image", "image_url": "x", "detail": {}}])],
            "input[0].content[0].detail",
        ),
        ([{**CALL, "arguments": "nonsense"}], "input[0].arguments"),
        ([{**CALL, "arguments": "[]"}], "input[0].arguments"),
        ([{**CALL, "call_id": None}], "input[0].call_id"),
        ([{**CALL, "namespace": "n"}], "input[0].namespace"),
        ([{**OUTPUT, "output": 5}], "input[0].output"),
        ([{**OUTPUT, "output": [{"type": "input_file"}]}], "input[0].output[0].type"),
        ([{"type": "reasoning", "summary": "x"}], "input[0].summary"),
        ([{"type": "reasoning", "summary": [{}]}], "input[0].summary[0].text"),
        ([{**THOUGHT, "encrypted_content": 5}], "input[0].encrypted_content"),
        ([{**said("user", "x"), "status": {}}], ""),
    ],
)
def test_bad_input_is_refused_by_name(value: Any, param: str) -> None:
    if not param:  # nothing is made of a status that is none
        assert read_input(value, ItemIds(), {})[0]["status"] == "completed"
        return
    with pytest.raises(BadRequest) as caught:
        read_input(value, ItemIds(), {})

    assert caught.value.param == param


def test_image_that_is_none_is_refused() -> None:
    items = items_of(
        said("user", [{"type": "input_image", "image_url": "data:image/png;base64,é"}])
    )

    with pytest.raises(BadRequest, match="invalid image input") as caught:
        to_messages(None, items, {})
    assert caught.value.param == "input"


@pytest.mark.parametrize("arguments", ['{"a":' * 300 + "1" + "}" * 300, '{"a": NaN}', "{} {}"])
def test_arguments_that_no_body_could_have_are_refused(arguments: str) -> None:
    with pytest.raises(BadRequest) as caught:
        items_of({**CALL, "arguments": arguments})

    assert caught.value.param == "input[0].arguments"


def test_half_a_surrogate_in_arguments_can_be_sent_on() -> None:
    [message] = messages_of({**CALL, "arguments": '{"a": "\\ud800"}'})

    assert message.tool_calls[0].arguments == {"a": "\ufffd"}


def test_item_may_be_named_only_once() -> None:
    stored = {"msg_1": items_of(said("user", "x" * 1000))[0]}
    named = {"type": "item_reference", "id": "msg_1"}

    assert len(read_input([named], ItemIds(), stored)) == 1
    with pytest.raises(BadRequest, match="only once"):
        read_input([named, named], ItemIds(), stored)
