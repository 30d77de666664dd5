"""`/v1/responses` and what stands below it, in OpenAI's dialect (contract/ollama.md 3.7).

Where Ollama forgets, this stores: an answer can be fetched, deleted and gone on from by whoever
asked for it. Knows no engine, no event and no row of the database.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference import generation
from inference import responses as conversations
from inference.api.caller import caller_of
from inference.api.image_urls import with_images
from inference.api.responses.fields import ENCRYPTED_REASONING, check_include
from inference.api.responses.items import image_addresses, named_items, read_input
from inference.api.responses.listing import read_page
from inference.api.responses.messages import to_messages
from inference.api.responses.schemas import InputTokensBody, ResponseBody
from inference.api.responses.writer import ResponseWriter
from inference.api.schemas import not_supported
from inference.api.streams import respond
from inference.requests import ChatRequest
from inference.responses import Item, ItemIds
from models_app import responses as stored
from models_app.permissions import Principal
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.errors import BadRequest
from ollamasite.http import JSON, encode_json, json_response

_GO_NAME: Final = "openai.ResponsesRequest"


class ResponsesView(CallView):
    """`POST /v1/responses`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation, or begin one."""
        body = await read_body(request, ResponseBody, _GO_NAME, empty_message=OPENAI_EMPTY_BODY)
        asked = await _read(request.user, body)
        frame = body.to_response(
            asked.ids.response_id, int(time.time()), is_kept=asked.kept_input is not None
        )
        includes_encrypted = ENCRYPTED_REASONING in body.include
        writer = ResponseWriter(frame, asked.ids, includes_encrypted=includes_encrypted)
        keep = _keeper(request.user, asked, writer)
        return await respond(
            caller_of(request), asked.chat, writer, is_streamed=body.stream, before_end=keep
        )


class InputTokensView(CallView):
    """`POST /v1/responses/input_tokens`."""

    async def post(self, request: Any) -> HttpResponse:
        """Count the tokens of what a response would be asked with; nothing is computed."""
        body = await read_body(request, InputTokensBody, _GO_NAME, empty_message=OPENAI_EMPTY_BODY)
        body.store = False
        asked = await _read(request.user, body)
        count = await generation.count_tokens(caller_of(request), asked.chat)
        return _reply({"object": "response.input_tokens", "input_tokens": count})


class ResponseView(ReadView):
    """`GET` and `DELETE /v1/responses/<id>`."""

    http_method_names = ["get", "head", "delete"]

    async def get(self, request: Any, response_id: str) -> HttpResponse:
        """Return an answer as it was given."""
        for field in ("stream", "starting_after"):
            if request.query_params.get(field, "false") != "false":
                raise not_supported(field)
        check_include(request.query_params.getlist("include[]"))
        record = await sync_to_async(stored.find_response)(request.user, response_id)
        return _reply(msgspec.Raw(record.body.encode()))

    async def delete(self, request: Any, response_id: str) -> HttpResponse:
        """Forget an answer and what was asked."""
        await sync_to_async(stored.delete_response)(request.user, response_id)
        return _reply({"id": response_id, "object": "response", "deleted": True})


class InputItemsView(ReadView):
    """`GET /v1/responses/<id>/input_items`."""

    async def get(self, request: Any, response_id: str) -> HttpResponse:
        """List what was asked, a page at a time."""
        page = read_page(request.query_params)
        items = await sync_to_async(conversations.input_items)(request.user, response_id)
        return _reply(page.of(items))


class CancelResponseView(CallView):
    """`POST /v1/responses/<id>/cancel`."""

    async def post(self, request: Any, response_id: str) -> HttpResponse:
        """Refuse: only answers that are computed in the background could be cancelled."""
        await sync_to_async(stored.find_response)(request.user, response_id)
        raise BadRequest("Cannot cancel a synchronous response.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A conversation that is to go on. `kept_input` is JSON text, None where nothing is stored."""

    ids: ItemIds
    chat: ChatRequest
    previous_id: str
    model: str
    kept_input: str | None


async def _read(principal: Principal, body: ResponseBody) -> _Asked:
    """Return what is asked with all that came before it. Raises BadRequest."""
    body.check()
    ids = ItemIds()
    previous_id = body.previous_response_id or ""
    before: list[Item] = []
    if previous_id:
        before = await sync_to_async(conversations.read_conversation)(principal, previous_id)
    named: dict[str, Item] = {}
    if names := named_items(body.input):
        named = await sync_to_async(conversations.find_items)(principal, names)
    # Decoding and encoding megabytes of images takes longer than others' streams may stand still.
    aside = asyncio.to_thread if before or isinstance(body.input, list) else _here
    items = await aside(read_input, body.input, ids, named)
    told = [*before, *items]

    async def read(fetched: Mapping[str, bytes]) -> ChatRequest:
        return body.to_request(await aside(to_messages, body.instructions, told, fetched))

    chat = await with_images(image_addresses(told), read, param="input")
    is_kept = body.store and stored.keeps_responses()
    return _Asked(
        ids=ids,
        chat=chat,
        previous_id=previous_id,
        model=body.model,
        kept_input=await aside(_kept_input, items, body) if is_kept else None,
    )


async def _here(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function as `asyncio.to_thread` does, without the way to a thread and back."""
    return function(*args)


def _kept_input(items: list[Item], body: ResponseBody) -> str:
    text = encode_json(items)
    repeated = encode_json([body.instructions, body.tools, body.text])  # in what is answered
    if len(text) + len(repeated) > settings.RESPONSES_BYTES:
        raise BadRequest(
            "the input is larger than what this site stores for one user: set store to false",
            param="store",
        )
    return text.decode()


def _keeper(
    principal: Principal, asked: _Asked, writer: ResponseWriter
) -> Callable[[], Awaitable[None]] | None:
    """Return what stores the answer when it is whole, None where it is not to be stored."""
    kept_input = asked.kept_input
    if kept_input is None:
        return None

    async def keep() -> None:
        record = stored.ResponseRecord(
            response_id=asked.ids.response_id,
            model_name=asked.model,
            previous_id=asked.previous_id,
            input=kept_input,
            body=encode_json(writer.response).decode(),
        )
        await sync_to_async(stored.keep_response)(principal, record)

    return keep


def _reply(value: Any) -> HttpResponse:
    return json_response(value, content_type=JSON, newline=True)
