"""`/v1/chat/completions` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.3, 3.4).

Knows no engine, no socket and no row of the database.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference.api.openai_schemas import ChatCompletionBody
from inference.api.streams import respond
from inference.messages import Finished
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response


class ChatCompletionsView(CallView):
    """`POST /v1/chat/completions`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation."""
        body = read_body(
            request,
            ChatCompletionBody,
            "openai.ChatCompletionRequest",
            empty_message=OPENAI_EMPTY_BODY,
        )
        writer = ChatCompletionWriter(body.model, includes_usage=body.stream_options.include_usage)
        return await respond(request.user, body.to_request(), writer, is_streamed=body.stream)


class ChatCompletionWriter:
    """One answer: every chunk has the same id and time, the role comes once."""

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(self, model: str, *, includes_usage: bool) -> None:
        self._model = model
        self._includes_usage = includes_usage
        self._has_begun = False
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def piece(self, text: str) -> bytes:
        """Return the chunk of a piece of text."""
        role = {} if self._has_begun else {"role": "assistant"}
        self._has_begun = True
        return self._chunk(delta={**role, "content": text}, finish_reason=None)

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return the last text if there is any, the finish chunk, usage if wished, and [DONE]."""
        del total_ns
        # An answer without any text has its role chunk all the same.
        last = self.piece(finished.text) if finished.text or not self._has_begun else b""
        finish = self._chunk(delta={}, finish_reason=finished.reason)
        usage = self._usage_chunk(finished) if self._includes_usage else b""
        return last + finish + usage + b"data: [DONE]\n\n"

    def failure(self, error: ServiceError) -> bytes:
        """Return an error event; both official SDKs raise on it. No [DONE] follows."""
        return _event(to_payload(error, Dialect.OPENAI))

    def whole(self, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the one object."""
        del total_ns
        message = {"role": "assistant", "content": finished.text}
        choice = {"index": 0, "message": message, "finish_reason": finished.reason}
        body = {**self._head("chat.completion"), "choices": [choice], "usage": _usage(finished)}
        return json_response(body, content_type=JSON, newline=True)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_ollama",
        }

    def _chunk(self, *, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _usage_chunk(self, finished: Finished) -> bytes:
        head = self._head("chat.completion.chunk")
        return _event({**head, "choices": [], "usage": _usage(finished)})


def _usage(finished: Finished) -> dict[str, int]:
    usage = finished.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"
