"""`/v1/chat/completions` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.3, 3.4).

Knows no engine, no socket and no row of the database.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference.api.answers import Answer, Said, last_words, token_entry
from inference.api.caller import caller_of
from inference.api.image_urls import with_images
from inference.api.openai.chat_schemas import ChatCompletionBody
from inference.api.openai.fields import usage_of
from inference.api.streams import respond
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Finished,
    Started,
    Token,
    TokenLogprob,
    ToolCall,
)
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body, work_through
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response

_ROLE: Final[Mapping[str, Any]] = MappingProxyType({"role": "assistant", "content": ""})


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
        caller = caller_of(request)
        read = partial(work_through, request, body.to_request)
        asked = await with_images(body.web_images(), read)
        writer = ChatCompletionWriter(
            body.model,
            choice_count=asked.choices,
            includes_usage=body.stream_options.include_usage,
            names_tier=bool(body.service_tier),
        )
        return await respond(caller, asked, writer, is_streamed=body.stream)


class ChatCompletionWriter:
    """One answer: every chunk has the same id and time, the role comes once in every choice."""

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(
        self,
        model: str,
        *,
        choice_count: int = 1,
        includes_usage: bool,
        names_tier: bool = False,
    ) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._model = model
        self._names_tier = names_tier
        self._includes_usage = includes_usage
        self._open = set(range(choice_count))
        self._begun = 0  # so many choices have had their role
        self._call_counts: dict[int, int] = {}
        # What all chunks begin with is written once.
        self._chunk_head = b"data: " + encode_json(self._head("chat.completion.chunk"))[:-1]

    def begin(self, started: Started | None) -> bytes:
        """Return nothing: the first chunk has the role and the first text."""
        del started
        return b""

    def piece(self, token: Token) -> bytes:
        """Return the chunk of a piece, or two: thinking comes apart from what follows it."""
        has_more = bool(token.text or token.tool_calls)
        if not (token.thinking and has_more):
            return self._said_chunk(token.choice, token, token.logprobs)
        opening = self._open_before(token.choice)
        thought = self._chunk(
            token.choice,
            delta={**self._role(token.choice), "reasoning": token.thinking},
            logprobs=token.logprobs,
        )
        rest = Token(request_id=token.request_id, text=token.text, tool_calls=token.tool_calls)
        return opening + thought + self._said_chunk(token.choice, rest, ())

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return the choice's finish chunk; one without any text has its role chunk first."""
        if ended.choice not in self._open:
            return b""
        self._open.discard(ended.choice)
        opening = self._open_before(ended.choice + 1)
        reason = _finish_reason(ended.reason, has_calls=ended.choice in self._call_counts)
        return opening + self._chunk(ended.choice, delta={}, finish_reason=reason)

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
                "message": {"role": "assistant", **_message(choice), "refusal": None},
                "finish_reason": _finish_reason(choice.reason, has_calls=bool(choice.tool_calls)),
                **_logprobs(choice.logprobs),
            }
            for index, choice in enumerate(answer.choices(finished))
        ]
        head = self._head("chat.completion")
        body = {**head, "choices": choices, "usage": usage_of(finished.usage)}
        return json_response(body, content_type=JSON, newline=True)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_ollama",
            **({"service_tier": "default"} if self._names_tier else {}),
        }

    def _said_chunk(self, index: int, said: Said, logprobs: Sequence[TokenLogprob]) -> bytes:
        opening = self._open_before(index)
        first_call = 0
        if said.tool_calls:
            first_call = self._call_counts.get(index, 0)
            self._call_counts[index] = first_call + len(said.tool_calls)
        delta = self._role(index) | _message(said, first_call)
        return opening + self._chunk(index, delta=delta, logprobs=logprobs)

    def _open_before(self, index: int) -> bytes:
        """Return the role chunks of the choices before this one that have not begun.

        The SDKs' streaming helpers take choices in order only.
        """
        waiting = range(self._begun, index)
        self._begun = max(self._begun, index)
        return b"".join([self._chunk(number, delta=dict(_ROLE)) for number in waiting])

    def _role(self, index: int) -> dict[str, Any]:
        if index < self._begun:
            return {}
        self._begun = index + 1
        return dict(_ROLE)

    def _chunk(
        self,
        index: int,
        *,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        whole = encode_json({**choice, **_logprobs(logprobs)})
        return self._chunk_head + b',"choices":[' + whole + b"]}\n\n"

    def _usage_chunk(self, finished: Finished) -> bytes:
        usage = encode_json(usage_of(finished.usage))
        return self._chunk_head + b',"choices":[],"usage":' + usage + b"}\n\n"


def _message(said: Said, first_call: int = 0) -> dict[str, Any]:
    message: dict[str, Any] = {"content": said.text}
    if said.thinking:
        message["reasoning"] = said.thinking
    if said.tool_calls:
        message["tool_calls"] = [
            _tool_call(call, index) for index, call in enumerate(said.tool_calls, first_call)
        ]
    return message


def _tool_call(call: ToolCall, index: int) -> dict[str, Any]:
    arguments = encode_json(call.arguments).decode()
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "index": index, "type": "function", "function": function}


def _finish_reason(reason: DoneReason | None, *, has_calls: bool) -> str | None:
    return "tool_calls" if has_calls and reason is DoneReason.STOP else reason


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    if not logprobs:
        return {}
    entries = [
        {**token_entry(token), "top_logprobs": [token_entry(other) for other in token.top]}
        for token in logprobs
    ]
    return {"logprobs": {"content": entries, "refusal": None}}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"
