"""Items of `/v1/responses` → the messages of a conversation (contract/ollama.md 3.7).

What a model thought, said and called in one turn comes as several items and is one message here.
Knows no body, no model and no database.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from inference.api.openai.fields import read_image
from inference.api.responses.items import parts_of
from inference.messages import ChatMessage, ToolCall
from inference.prompting.turns import PARAGRAPH
from inference.responses import Item
from ollamasite.http import read_json_text


def to_messages(
    instructions: str | None, items: Iterable[Item], fetched: Mapping[str, bytes]
) -> tuple[ChatMessage, ...]:
    """Return the conversation; `fetched` has the images that are named by web address.

    Raises BadRequest for an image that is none.
    """
    conversation = _Conversation(fetched)
    if instructions:
        conversation.messages.append(ChatMessage(role="system", content=instructions))
    for item in items:
        conversation.add(item)
    conversation.end_turn()
    return tuple(conversation.messages)


class _Conversation:
    """Messages as they grow; thinking waits for what came of it."""

    def __init__(self, fetched: Mapping[str, bytes]) -> None:
        self.messages: list[ChatMessage] = []
        self._fetched = fetched
        self._names_by_call_id: dict[str, str] = {}
        self._thinking = ""

    def add(self, item: Item) -> None:
        """Take an item."""
        match item["type"]:
            case "reasoning":
                self._thinking += _thoughts(item)
            case "function_call":
                self._add_call(item)
            case "function_call_output":
                self._add_call_output(item)
            case "message":
                self._add_message(item)

    def end_turn(self) -> None:
        """Keep thinking of which nothing came: an answer that was cut has nothing else."""
        if self._thinking:
            thought = ChatMessage(role="assistant", thinking=self._taken_thinking())
            self.messages.append(thought)

    def _add_message(self, item: Item) -> None:
        role = "system" if item["role"] == "developer" else item["role"]
        message = ChatMessage(role=role, content=_text(item), images=self._images(item))
        if role == "assistant":
            message = structs.replace(message, thinking=self._taken_thinking())
        else:
            self.end_turn()
        self.messages.append(message)

    def _add_call(self, item: Item) -> None:
        self._names_by_call_id[item["call_id"]] = item["name"]
        is_of_last = (
            bool(self.messages) and self.messages[-1].role == "assistant" and not self._thinking
        )
        if not is_of_last:
            thinking = self._taken_thinking()
            self.messages.append(ChatMessage(role="assistant", thinking=thinking))
        message = self.messages[-1]
        call = ToolCall(
            id=item["call_id"],
            index=len(message.tool_calls),
            name=item["name"],
            arguments=read_json_text(item["arguments"]),
        )
        self.messages[-1] = structs.replace(message, tool_calls=(*message.tool_calls, call))

    def _add_call_output(self, item: Item) -> None:
        self.end_turn()
        output, call_id = item["output"], item["call_id"]
        self.messages.append(
            ChatMessage(
                role="tool",
                content=output if isinstance(output, str) else _text(item),
                images=self._images(item),
                tool_name=item.get("name") or self._names_by_call_id.get(call_id, ""),
                tool_call_id=call_id,
            )
        )

    def _taken_thinking(self) -> str:
        thinking, self._thinking = self._thinking, ""
        return thinking

    def _images(self, item: Item) -> tuple[bytes, ...]:
        return tuple(
            read_image(part["image_url"], self._fetched, param="input")
            for part in parts_of(item)
            if part["type"] == "input_image"
        )


def _text(item: Item) -> str:
    texts = (part.get("text", part.get("refusal")) for part in parts_of(item))
    return PARAGRAPH.join(text for text in texts if text is not None)


def _thoughts(item: Item) -> str:
    """Return what was thought, from where it is surely readable first."""
    parts = item.get("content") or item.get("summary") or []
    return "".join(part["text"] for part in parts) or item.get("encrypted_content") or ""
