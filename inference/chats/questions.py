"""A page's question → what the model is asked, and the rows that it becomes.

Checks what was sent, reads the branch that it goes on from, and puts the conversation together.
Nothing is stored here. Sync; knows no engine and no socket.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from inference.api.schemas import ChatBody, read_images
from inference.chats.answers import PROCESS
from inference.chats.frames import AskFrame, RegenerateFrame, ResultFrame
from inference.images import MAX_IMAGES, read_header
from inference.messages import ChatMessage, ToolCall
from inference.requests import ChatRequest
from models_app import chat_messages, chats
from models_app.chat_messages import MessageRecord, NewImage, NewMessages
from models_app.chats import ChatSettings
from models_app.errors import ChatMessageNotFound
from models_app.permissions import Principal
from ollamasite.bodies import decode
from ollamasite.errors import BadRequest, Conflict

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_QUESTION_IMAGES: Final = 8
_MOST_OPTIONS_BYTES: Final = 64 * 1024
_MOST_TOOLS_BYTES: Final = 256 * 1024
_MOST_RESULTS: Final = 64


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what is stored of it; `new` None: nothing is."""

    request: ChatRequest
    new: NewMessages | None


def of_ask(principal: Principal, frame: AskFrame) -> Question:
    """Return a question in a chat, in a new one, or in none that is kept.

    Raises BadRequest, InvalidImage, Conflict, and NotFound of what it is to go on from.
    """
    _check_size(frame.text, "the question")
    images = _images(principal, frame)
    if not frame.text.strip() and not images:
        raise BadRequest("there is nothing to answer: write something or add an image")
    settings = _settings(frame)
    asked = ChatMessage(
        role="user", content=frame.text, images=tuple(image.data for image in images)
    )
    if frame.temporary:
        return Question(_request(settings, [*_history(frame), asked]), None)
    before: list[ChatMessage] = []
    if frame.chat:
        before = _conversation(principal, _branch(principal, frame.chat, frame.parent))
    if frame.folder:
        chats.find_folder(principal, frame.folder)
    new = NewMessages(
        chat_id=frame.chat,
        folder_id="" if frame.chat else frame.folder,
        parent=frame.parent if frame.chat else "",
        role="user",
        text=frame.text,
        images=images,
        settings=settings,
        process=PROCESS,
    )
    return Question(_request(settings, [*before, asked]), new)


def of_regenerate(principal: Principal, frame: RegenerateFrame) -> Question:
    """Return the question of an answer once more. Raises ChatMessageNotFound, BadRequest."""
    answer = _answer(principal, frame.message)
    chat, records = chat_messages.read_branch(principal, answer.chat_id, leaf=answer.parent)
    settings = chat.settings
    settings = replace(settings, model_name=frame.model or answer.model_name)
    if frame.options is not None:
        settings = replace(settings, options=_json(frame.options, _MOST_OPTIONS_BYTES, "options"))
    new = NewMessages(
        chat_id=answer.chat_id, parent=answer.parent, settings=settings, process=PROCESS
    )
    return Question(_request(settings, _conversation(principal, records)), new)


def of_results(principal: Principal, frame: ResultFrame) -> Question:
    """Return a conversation that goes on with the results of calls.

    Raises ChatMessageNotFound, BadRequest, Conflict.
    """
    answer = _answer(principal, frame.message)
    if not 0 < len(frame.results) <= _MOST_RESULTS or answer.calls == "[]":
        raise BadRequest("there is nothing that these are the results of")
    results = _json(frame.results, MAX_TEXT_BYTES, "results")
    records = _branch(principal, answer.chat_id, answer.message_id)
    chat = chats.find_chat(principal, answer.chat_id)
    settings = replace(chat.settings, model_name=answer.model_name)
    new = NewMessages(
        chat_id=answer.chat_id,
        parent=answer.message_id,
        role="tool",
        calls=results,
        settings=settings,
        process=PROCESS,
    )
    told = [
        ChatMessage(role="tool", content=result.content, tool_name=result.name)
        for result in frame.results
    ]
    return Question(_request(settings, [*_conversation(principal, records), *told]), new)


def _answer(principal: Principal, message_id: str) -> MessageRecord:
    answer = chat_messages.find_message(principal, message_id)
    if answer.role != "assistant":
        raise ChatMessageNotFound
    return answer


def _branch(principal: Principal, chat_id: str, parent: str) -> list[MessageRecord]:
    """Return the messages up to the answer that a question goes on from; none: before all."""
    if not parent:
        chats.find_chat(principal, chat_id)
        return []
    _, records = chat_messages.read_branch(principal, chat_id, leaf=parent)
    if records[-1].role != "assistant":
        raise ChatMessageNotFound
    if records[-1].state == chat_messages.RUNNING:
        raise Conflict("this answer is still being written: wait for it, or stop it")
    return records


def _conversation(principal: Principal, records: Sequence[MessageRecord]) -> list[ChatMessage]:
    # A request may have so many images: the newest count.
    named = [image.image_id for record in records for image in record.images]
    images = chat_messages.read_images(principal, named[-MAX_IMAGES:]) if named else {}
    return [message for record in records for message in _messages(record, images)]


def _messages(record: MessageRecord, images: dict[str, bytes]) -> list[ChatMessage]:
    stored = msgspec.json.decode(record.calls)
    if record.role == "tool":
        return [
            ChatMessage(role="tool", content=result["content"], tool_name=result["name"])
            for result in stored
        ]
    if record.role == "assistant" and not record.text and not stored:
        return []  # it failed, or was stopped before it said anything
    found = (images.get(image.image_id) for image in record.images)
    calls = (ToolCall(index=at, **call) for at, call in enumerate(stored))
    return [
        ChatMessage(
            role=record.role,
            content=record.text,
            thinking=record.thinking,
            images=tuple(data for data in found if data is not None),
            tool_calls=tuple(calls),
        )
    ]


def _history(frame: AskFrame) -> list[ChatMessage]:
    return [message.to_message() for message in frame.history]


def _request(settings: ChatSettings, messages: Sequence[ChatMessage]) -> ChatRequest:
    """Return the internal request. Raises InvalidBody, BadRequest."""
    body: dict[str, Any] = {
        "model": settings.model_name,
        "options": msgspec.json.decode(settings.options),
        "tools": msgspec.json.decode(settings.tools),
        "think": msgspec.json.decode(settings.think),
    }
    system = [ChatMessage(role="system", content=settings.system)] if settings.system else []
    asked = decode(body, ChatBody, "ChatRequest").to_request()
    return replace(asked, messages=(*system, *messages))


def _settings(frame: AskFrame) -> ChatSettings:
    if not frame.model:
        raise BadRequest("choose a model first")
    _check_size(frame.system, "the system prompt")
    return read_settings(
        model=frame.model,
        system=frame.system,
        options=frame.options,
        tools=frame.tools,
        think=frame.think,
    )


def read_settings(
    *, model: str, system: str, options: dict[str, Any], tools: list[Any], think: Any
) -> ChatSettings:
    """Return what a chat is asked with, as it is stored. Raises BadRequest."""
    _check_size(system, "the system prompt")
    return ChatSettings(
        model_name=model,
        system=system,
        options=_json(options, _MOST_OPTIONS_BYTES, "options"),
        tools=_json(tools, _MOST_TOOLS_BYTES, "tools"),
        think=_json(think if isinstance(think, bool | str) else None, 16, "think"),
    )


def _images(principal: Principal, frame: AskFrame) -> tuple[NewImage, ...]:
    kept = _images_of(principal, frame.images_of) if frame.images_of else []
    if len(frame.images) + len(kept) > MAX_QUESTION_IMAGES:
        raise BadRequest(f"a question has {MAX_QUESTION_IMAGES} images at most")
    contents = read_images([image.data for image in frame.images], "ImageFrame")
    sent = [(image.name, data) for image, data in zip(frame.images, contents, strict=True)]
    return tuple(
        NewImage(name=name, media_type=f"image/{read_header(data).kind.lower()}", data=data)
        for name, data in (*kept, *sent)
    )


def _images_of(principal: Principal, message_id: str) -> list[tuple[str, bytes]]:
    named = chat_messages.find_message(principal, message_id).images
    contents = chat_messages.read_images(principal, [image.image_id for image in named])
    return [(image.name, contents[image.image_id]) for image in named if image.image_id in contents]


def _check_size(text: str, what: str) -> None:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise BadRequest(f"{what} is longer than 1 MB")


def _json(value: Any, most_bytes: int, what: str) -> str:
    text = msgspec.json.encode(value)
    if len(text) > most_bytes:
        raise BadRequest(f"{what} are too long")
    return text.decode()
