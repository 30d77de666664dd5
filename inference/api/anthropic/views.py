"""`/v1/messages` and `/v1/messages/count_tokens` in Anthropic's dialect (contract/ollama.md 3.8).

Knows no engine, no socket and no row of the database.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference import generation
from inference.api.anthropic.schemas import CountTokensBody, MessagesBody
from inference.api.anthropic.writer import MessageWriter
from inference.api.caller import caller_of
from inference.api.image_urls import with_images
from inference.api.streams import respond
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body, work_through
from ollamasite.errors import BadRequest
from ollamasite.http import JSON, json_response

# By these headers the SDK names what this server does not have.
_REFUSED_HEADERS: Final = {
    "anthropic-workspace-id": "workspace_id",
    "anthropic-user-profile-id": "user_profile_id",
}


class MessagesView(CallView):
    """`POST /v1/messages`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation."""
        _check_headers(request.headers)
        body = await read_body(
            request, MessagesBody, "anthropic.MessagesRequest", empty_message=OPENAI_EMPTY_BODY
        )
        read = partial(work_through, request, body.to_request)
        asked = await with_images(body.image_urls, read)
        writer = MessageWriter(
            body.model, stop_sequences=body.stop_sequences, hides_thinking=body.hides_thinking
        )
        return await respond(caller_of(request), asked, writer, is_streamed=body.stream)


class CountTokensView(CallView):
    """`POST /v1/messages/count_tokens`."""

    async def post(self, request: Any) -> HttpResponse:
        """Count the tokens of a prompt; nothing is computed."""
        _check_headers(request.headers)
        body = await read_body(
            request,
            CountTokensBody,
            "anthropic.CountTokensRequest",
            empty_message=OPENAI_EMPTY_BODY,
        )
        read = partial(work_through, request, body.to_request)
        asked = await with_images(body.image_urls, read)
        count = await generation.count_tokens(caller_of(request), asked)
        return json_response({"input_tokens": count}, content_type=JSON)


def _check_headers(headers: Mapping[str, str]) -> None:
    for header, field in _REFUSED_HEADERS.items():
        if headers.get(header):
            raise BadRequest(f'"{field}" is not supported by this server', param=field)
