"""What `/api/generate` and `/api/chat` answer: objects, in the wire's key order.

Shapes and order: contract/ollama.md 1.2 to 1.4, 6.9; `_debug_info` is what the prompt looked like.
Knows no route, no engine and no socket.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse

from inference.api.answers import Answer, Said, last_words, token_entry
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Finished,
    Rendered,
    Started,
    Token,
    TokenLogprob,
    ToolCall,
)
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import NDJSON, encode_json, format_time, json_response


class NativeWriter(ABC):
    """What the answers of both routes have in common: objects, one a line when streamed."""

    stream_type: ClassVar[str] = NDJSON
    stream_headers: ClassVar[Mapping[str, str]] = {}
    # What stands in the place of an answer where no model has been asked.
    nothing: ClassVar[Mapping[str, Any]]

    def __init__(self, model: str) -> None:
        self._model = model

    @abstractmethod
    def content(self, said: Said) -> dict[str, Any]:
        """Return where the route's object holds what was said."""

    @abstractmethod
    def extras(self, said: Said) -> dict[str, Any]:
        """Return what an object of the route has of it behind everything but logprobs."""

    @abstractmethod
    def tail(
        self, finished: Finished, counters: Mapping[str, int], said: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a final object has behind its reason, in the route's order.

        `said` are the extras and log probabilities.
        """

    def begin(self, started: Started | None) -> bytes:
        """Return nothing: the first line has the first text."""
        del started
        return b""

    def piece(self, token: Token) -> bytes:
        """Return the line of a piece of the answer."""
        line = {
            **self._head(self.content(token)),
            "done": False,
            **self.extras(token),
            **logprob_field(token.logprobs),
        }
        return encode_json(line) + b"\n"

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return nothing: there is one choice."""
        del ended
        return b""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return the last line."""
        last = self._final(finished, last_words(finished), finished.logprobs, total_ns)
        return encode_json(last) + b"\n"

    def failure(self, error: ServiceError) -> bytes:
        """Return the last line of a stream that failed."""
        return encode_json(to_payload(error, Dialect.NATIVE)) + b"\n"

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the one object."""
        if answer.rendered is not None:
            shown = {"done": False, "_debug_info": _debug_info(answer.rendered)}
            return json_response({**self._head(self.nothing), **shown})
        choice = answer.choices(finished)[0]
        return json_response(self._final(finished, choice, choice.logprobs, total_ns))

    def _head(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._model, "created_at": format_time(time.time_ns()), **content}

    def _final(
        self, finished: Finished, said: Said, logprobs: Sequence[TokenLogprob], total_ns: int
    ) -> dict[str, Any]:
        end = {**self._head(self.content(said)), "done": True, "done_reason": finished.reason}
        if finished.reason in {DoneReason.LOAD, DoneReason.UNLOAD}:
            return end
        more = {**self.extras(said), **logprob_field(logprobs)}
        return end | self.tail(finished, metrics(finished, total_ns), more)


class GenerateWriter(NativeWriter):
    """Answers of `/api/generate`."""

    nothing: ClassVar[Mapping[str, Any]] = {"response": ""}

    def content(self, said: Said) -> dict[str, Any]:
        """Return the text as `response`, and thinking where there is some."""
        response: dict[str, Any] = {"response": said.text}
        if said.thinking:
            response["thinking"] = said.thinking
        return response

    def extras(self, said: Said) -> dict[str, Any]:
        """Return the calls."""
        return tool_call_field(said.tool_calls)

    def tail(
        self, finished: Finished, counters: Mapping[str, int], said: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the token ids of prompt and answer, where they were asked for, and the rest."""
        context = {"context": finished.context} if finished.context else {}
        return {**context, **counters, **said}


class ChatWriter(NativeWriter):
    """Answers of `/api/chat`."""

    nothing: ClassVar[Mapping[str, Any]] = {"message": {"role": "", "content": ""}}

    def content(self, said: Said) -> dict[str, Any]:
        """Return what was said as a message."""
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        if said.thinking:
            message["thinking"] = said.thinking
        return {"message": message | tool_call_field(said.tool_calls)}

    def extras(self, said: Said) -> dict[str, Any]:
        """Return nothing: the calls are in the message."""
        del said
        return {}

    def tail(
        self, finished: Finished, counters: Mapping[str, int], said: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return no context: chats carry their messages instead."""
        del finished
        return {**said, **counters}


def metrics(finished: Finished, total_ns: int) -> dict[str, int]:
    """Return the counters of a finished request in Ollama's names; zeros are left out."""
    usage = finished.usage
    values = {
        "total_duration": total_ns,
        "load_duration": usage.load_ns,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_cached_count": usage.cached_tokens,
        "prompt_eval_duration": usage.prompt_eval_ns,
        "eval_count": usage.completion_tokens,
        "eval_duration": usage.eval_ns,
    }
    return {name: value for name, value in values.items() if value}


def logprob_field(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return the key `logprobs` where there are any (contract 6.9)."""
    return {"logprobs": [_logprob(token) for token in logprobs]} if logprobs else {}


def tool_call_field(calls: Sequence[ToolCall]) -> dict[str, Any]:
    """Return the key `tool_calls` where there are any; arguments are an object (contract 1.3)."""
    return {"tool_calls": [_tool_call(call) for call in calls]} if calls else {}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    return {**({"id": call.id} if call.id else {}), "function": function}


def _debug_info(rendered: Rendered) -> dict[str, Any]:
    images = {"image_count": rendered.image_count} if rendered.image_count else {}
    return {"rendered_template": rendered.text, **images}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    top = {"top_logprobs": [token_entry(other) for other in token.top]} if token.top else {}
    return {**token_entry(token), **top}
