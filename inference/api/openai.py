"""`/v1/chat/completions` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.3, 3.4).

Knows no engine, no socket and no row of the database.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference.api.answers import Answer, Said, last_words, token_entry
from inference.api.openai_schemas import ChatCompletionBody
from inference.api.priority import asked_priority
from inference.api.streams import respond
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Finished,
    Token,
    TokenLogprob,
    ToolCall,
)
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response


class ChatCompletionsView(CallView):
    """`POST /v1/chat/completions`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation."""
        body = await read_body(
            request,
            ChatCompletionBody,
            "openai.ChatCompletionRequest",
            empty_message=OPENAI_EMPTY_BODY,
        )
        asked, priority = body.to_request(), asked_priority(request)
        writer = ChatCompletionWriter(
            body.model,
            choice_count=asked.choices,
            includes_usage=body.stream_options.include_usage,
        )
        return await respond(
            request.user, asked, writer, is_streamed=body.stream, priority=priority
        )


class ChatCompletionWriter:
    """One answer: every chunk has the same id and time, the role comes once in every choice."""

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(self, model: str, *, choice_count: int = 1, includes_usage: bool) -> None:
        self._model = model
        self._includes_usage = includes_usage
        self._open = set(range(choice_count))
        self._begun: set[int] = set()
        self._callers: set[int] = set()  # choices that have asked for a call
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def piece(self, token: Token) -> bytes:
        """Return the chunk of a piece, or two: thinking comes apart from what follows it."""
        has_more = bool(token.text or token.tool_calls)
        if not (token.thinking and has_more):
            return self._said_chunk(token.choice, token, token.logprobs)
        thought = self._chunk(
            token.choice,
            delta={**self._role(token.choice), "reasoning": token.thinking},
            logprobs=token.logprobs,
        )
        rest = Token(request_id=token.request_id, text=token.text, tool_calls=token.tool_calls)
        return thought + self._said_chunk(token.choice, rest, ())

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return the choice's finish chunk; one without any text has its role chunk first."""
        if ended.choice not in self._open:
            return b""
        self._open.discard(ended.choice)
        is_begun = ended.choice in self._begun
        role = b"" if is_begun else self._chunk(ended.choice, delta=self._role(ended.choice))
        reason = _finish_reason(ended.reason, has_calls=ended.choice in self._callers)
        return role + self._chunk(ended.choice, delta={}, finish_reason=reason)

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return what is left: last text, finish chunks, usage if wished, and [DONE]."""
        del total_ns
        has_more = bool(finished.text or finished.logprobs)
        words = last_words(finished)
        last = self._said_chunk(0, words, finished.logprobs) if has_more else b""
        ends = [
            ChoiceEnded(request_id=finished.request_id, choice=number, reason=finished.reason)
            for number in sorted(self._open)
        ]
        finish = b"".join([self.choice_end(ended) for ended in ends])
        usage = self._usage_chunk(finished) if self._includes_usage else b""
        return last + finish + usage + b"data: [DONE]\n\n"

    def failure(self, error: ServiceError) -> bytes:
        """Return an error event; both official SDKs raise on it. No [DONE] follows."""
        return _event(to_payload(error, Dialect.OPENAI))

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the one object."""
        del total_ns
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", **_message(choice)},
                "finish_reason": _finish_reason(choice.reason, has_calls=bool(choice.tool_calls)),
                **_logprobs(choice.logprobs),
            }
            for index, choice in enumerate(answer.choices(finished))
        ]
        body = {**self._head("chat.completion"), "choices": choices, "usage": _usage(finished)}
        return json_response(body, content_type=JSON, newline=True)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_ollama",
        }

    def _said_chunk(self, index: int, said: Said, logprobs: Sequence[TokenLogprob]) -> bytes:
        if said.tool_calls:
            self._callers.add(index)
        delta = self._role(index) | _message(said)
        return self._chunk(index, delta=delta, logprobs=logprobs)

    def _role(self, index: int) -> dict[str, Any]:
        if index in self._begun:
            return {}
        self._begun.add(index)
        return {"role": "assistant", "content": ""}

    def _chunk(
        self,
        index: int,
        *,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        return _event(
            {
                **self._head("chat.completion.chunk"),
                "choices": [{**choice, **_logprobs(logprobs)}],
            }
        )

    def _usage_chunk(self, finished: Finished) -> bytes:
        head = self._head("chat.completion.chunk")
        return _event({**head, "choices": [], "usage": _usage(finished)})


def _message(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"content": said.text}
    if said.thinking:
        message["reasoning"] = said.thinking
    if said.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in said.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    arguments = encode_json(call.arguments).decode()
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


def _finish_reason(reason: DoneReason | None, *, has_calls: bool) -> str | None:
    return "tool_calls" if has_calls and reason is DoneReason.STOP else reason


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    if not logprobs:
        return {}
    entries = [
        {**token_entry(token), "top_logprobs": [token_entry(other) for other in token.top]}
        for token in logprobs
    ]
    return {"logprobs": {"content": entries}}


def _usage(finished: Finished) -> dict[str, Any]:
    usage = finished.usage
    details = {"prompt_tokens_details": {"cached_tokens": usage.cached_tokens}}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **(details if usage.cached_tokens else {}),
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"
