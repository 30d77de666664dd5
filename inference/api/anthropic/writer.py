"""Events of a generation → a message in Anthropic's shape, whole or as a stream of events.

Shape: contract/ollama.md 3.8 and the types of Anthropic's Python SDK, which wants the key
`stop_sequence` and a signature of thinking. `input_tokens` are, as in Anthropic's API, the
prompt's tokens that were not in the cache. Knows no request and no engine.
"""

import secrets
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from django.http import HttpResponse

from inference.api.answers import Answer, Choice, last_words
from inference.messages import ChoiceEnded, DoneReason, Finished, Started, Token, ToolCall
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response

_REASONS: Final = {DoneReason.LENGTH: "max_tokens"}
_TEXT: Final = "text"
_THINKING: Final = "thinking"


class MessageWriter:
    """One message. In a stream its blocks come one after the other, each opened and closed.

    `stop_sequences` are those the client asked for: the model's own end a turn. With
    `hides_thinking` a block of thinking has its signature alone.
    """

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(
        self, model: str, *, stop_sequences: Collection[str] = (), hides_thinking: bool = False
    ) -> None:
        self._model = model
        self._stop_sequences = stop_sequences
        self._hides_thinking = hides_thinking
        self._id = f"msg_{secrets.token_hex(12)}"
        self._index = 0
        self._open = ""  # type of the block that is not closed yet
        self._has_calls = False

    def begin(self, started: Started | None) -> bytes:
        """Return the start of the message: all but its content."""
        prompt = started.prompt_tokens if started else 0
        cached = started.cached_tokens if started else 0
        message = self._message(
            content=[], reason=None, stop_sequence=None, usage=_usage(prompt, cached, 0, 0)
        )
        return _event("message_start", {"message": message})

    def piece(self, token: Token) -> bytes:
        """Return the events of a piece: what was thought, then what is said, then calls."""
        sent = b""
        if token.thinking:
            sent += self._delta(_THINKING, token.thinking)
        if token.text:
            sent += self._delta(_TEXT, token.text)
        for call in token.tool_calls:
            sent += self._close() + self._call(call)
        return sent

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return nothing: there is one choice, and its end is the message's."""
        del ended
        return b""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return the last text, why the message ended, and what it cost."""
        del total_ns
        said = last_words(finished)
        text = self._delta(_TEXT, said.text) if said.text else b""
        reason, stop_sequence = self._reason(finished, has_calls=self._has_calls)
        delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
        return b"".join(
            (
                text,
                self._close(),
                _event("message_delta", {"delta": delta, "usage": _usage_of(finished)}),
                _event("message_stop", {}),
            )
        )

    def failure(self, error: ServiceError) -> bytes:
        """Return an error event, on which the SDK raises; nothing follows it."""
        return b"event: error\ndata: " + encode_json(to_payload(error, Dialect.ANTHROPIC)) + b"\n\n"

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the whole message."""
        del total_ns
        choice = answer.choices(finished)[0]
        reason, stop_sequence = self._reason(finished, has_calls=bool(choice.tool_calls))
        message = self._message(
            content=self._content(choice),
            reason=reason,
            stop_sequence=stop_sequence,
            usage=_usage_of(finished),
        )
        return json_response(message, content_type=JSON)

    def _message(
        self,
        *,
        content: list[dict[str, Any]],
        reason: str | None,
        stop_sequence: str | None,
        usage: dict[str, Any],
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop_sequence,
            "usage": {**usage, "service_tier": "standard"},
        }

    def _content(self, choice: Choice) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        if choice.thinking:
            thinking = "" if self._hides_thinking else choice.thinking
            content.append({"type": _THINKING, "thinking": thinking, "signature": _signature()})
        if choice.text:
            content.append({"type": _TEXT, "text": choice.text})
        return content + [_tool_use(call, call.arguments) for call in choice.tool_calls]

    def _reason(self, finished: Finished, *, has_calls: bool) -> tuple[str, str | None]:
        # Calls go first, also before a length that was reached (contract 3.8).
        if has_calls:
            return "tool_use", None
        if finished.stop_sequence in self._stop_sequences:
            return "stop_sequence", finished.stop_sequence
        return _REASONS.get(finished.reason, "end_turn"), None

    # -------------------------------------------------------------- blocks of a stream

    def _delta(self, kind: str, text: str) -> bytes:
        """Return a piece of a block of text or thinking, which is opened first if it is not."""
        opened = b""
        if self._open != kind:
            opened = self._close() + self._start({"type": kind, **_EMPTY[kind]})
            self._open = kind
        if kind == _THINKING and self._hides_thinking:
            return opened
        return opened + self._block_delta({"type": f"{kind}_delta", kind: text})

    def _call(self, call: ToolCall) -> bytes:
        self._has_calls = True
        arguments = encode_json(call.arguments).decode()
        sent = self._start(_tool_use(call, {})) + self._block_delta(
            {"type": "input_json_delta", "partial_json": arguments}
        )
        return sent + self._stop()

    def _close(self) -> bytes:
        if not self._open:
            return b""
        signature = b""
        if self._open == _THINKING:
            signature = self._block_delta({"type": "signature_delta", "signature": _signature()})
        self._open = ""
        return signature + self._stop()

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _block_delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        stop = _event("content_block_stop", {"index": self._index})
        self._index += 1
        return stop


_EMPTY: Final[dict[str, dict[str, Any]]] = {
    _TEXT: {"text": ""},
    _THINKING: {"thinking": "", "signature": ""},
}


def _tool_use(call: ToolCall, arguments: dict[str, Any]) -> dict[str, Any]:
    call_id = call.id or f"toolu_{secrets.token_hex(12)}"
    return {"type": "tool_use", "id": call_id, "name": call.name, "input": arguments}


def _signature() -> str:
    # Proves nothing: thinking that comes back is read as it is.
    return secrets.token_urlsafe(24)


def _usage(prompt: int, cached: int, completion: int, thinking: int) -> dict[str, Any]:
    return {
        "input_tokens": max(0, prompt - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
        "output_tokens_details": {"thinking_tokens": thinking},
    }


def _usage_of(finished: Finished) -> dict[str, Any]:
    used = finished.usage
    return _usage(
        used.prompt_tokens, used.cached_tokens, used.completion_tokens, used.reasoning_tokens
    )


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    data = encode_json({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
