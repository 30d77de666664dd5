"""How `/v1/responses` writes an answer: one object, or events with rising numbers.

The same items come of both (contract/ollama.md 3.7). Knows no engine, no request body and no
storage.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from django.http import HttpResponse

from inference.api.answers import Answer, Choice, last_words
from inference.api.responses.growth import (
    Event,
    GrowingItem,
    GrowingMessage,
    GrowingReasoning,
    whole_call,
)
from inference.api.responses.objects import (
    COMPLETED,
    FAILED,
    INCOMPLETE,
    ResponseObject,
    usage_object,
)
from inference.messages import ChoiceEnded, DoneReason, Finished, Started, Token, TokenLogprob
from inference.responses import ItemIds
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response

_TOO_MANY: Final = 429
_INTERNAL: Final = 500


class ResponseWriter:
    """One answer; `response` is what has become of it, and whole before its last event is sent."""

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(self, response: ResponseObject, ids: ItemIds, *, includes_encrypted: bool) -> None:
        self.response = response
        self._ids = ids
        self._includes_encrypted = includes_encrypted
        self._open: GrowingItem | None = None
        self._held: list[TokenLogprob] = []  # of tokens whose text has not come yet
        self._sequence_number = 0

    def begin(self, started: Started | None) -> bytes:
        """Return the two events with which every answer begins."""
        del started
        return self._encoded(
            [
                ("response.created", {"response": self.response}),
                ("response.in_progress", {"response": self.response}),
            ]
        )

    def piece(self, token: Token) -> bytes:
        """Return the events of a piece: thinking, then text, then calls."""
        return self._encoded(self._said(token))

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return nothing: there is one choice, and `end` tells of it."""
        del ended
        return b""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return what is left, and the event with the whole object."""
        del total_ns
        words = last_words(finished)
        last = Token(request_id="", text=words.text, logprobs=finished.logprobs)
        events = [*self._said(last), *self._finish(finished)]
        kind = f"response.{self.response.status}"
        return self._encoded([*events, (kind, {"response": self.response})])

    def failure(self, error: ServiceError) -> bytes:
        """Return the failed object and an error event.

        The SDKs hand the first to the caller and raise on the second, for its key `error`.
        """
        payload = to_payload(error, Dialect.OPENAI)
        told: Mapping[str, Any] = payload["error"]
        self.response.status = FAILED
        self.response.error = {"code": _failure_code(error.status), "message": told["message"]}
        flat = {key: told[key] for key in ("code", "message", "param")}
        return self._encoded(
            [("response.failed", {"response": self.response}), ("error", {**flat, **payload})]
        )

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the one object."""
        del total_ns
        choice = answer.choices(finished)[0]
        said = Token(
            request_id="",
            text=choice.text,
            thinking=choice.thinking,
            tool_calls=tuple(choice.tool_calls),
            logprobs=_text_logprobs(choice),
        )
        self._said(said)
        self._finish(finished)
        return json_response(self.response, content_type=JSON, newline=True)

    def _said(self, token: Token) -> list[Event]:
        events: list[Event] = []
        if token.thinking:
            self._held.clear()
            events += self._grow(GrowingReasoning, token.thinking, ())
        if token.text:
            logprobs = (*self._held, *token.logprobs)
            self._held.clear()
            events += self._grow(GrowingMessage, token.text, logprobs)
        elif not token.thinking:
            self._held += token.logprobs
        for call in token.tool_calls:
            self._held.clear()
            events += self._close(COMPLETED)
            item_id, index = self._ids.next("fc"), len(self.response.output)
            item, told = whole_call(item_id, index, call)
            self.response.output.append(item)
            events += told
        return events

    def _grow(
        self,
        kind: type[GrowingMessage | GrowingReasoning],
        text: str,
        logprobs: Sequence[TokenLogprob],
    ) -> list[Event]:
        if isinstance(self._open, kind):
            return self._open.grow(text, logprobs)
        events = self._close(COMPLETED)
        item_id, index = self._ids.next(kind.prefix), len(self.response.output)
        growing = kind(item_id, index, includes_encrypted=self._includes_encrypted)
        self._open = growing
        return [*events, *growing.begin(), *growing.grow(text, logprobs)]

    def _close(self, status: str) -> list[Event]:
        if self._open is None:
            return []
        item, events = self._open.end(status)
        self._open = None
        self.response.output.append(item)
        return events

    def _finish(self, finished: Finished) -> list[Event]:
        response = self.response
        is_cut = finished.reason is DoneReason.LENGTH
        response.status = INCOMPLETE if is_cut else COMPLETED
        if self._open is None and not response.output:  # clients look for a message
            events = [*self._grow(GrowingMessage, "", ()), *self._close(response.status)]
        else:
            events = self._close(response.status)
        response.usage = usage_object(finished.usage)
        if is_cut:
            response.incomplete_details = {"reason": "max_output_tokens"}
        else:
            response.completed_at = int(time.time())
        return events

    def _encoded(self, events: Iterable[Event]) -> bytes:
        chunks = []
        for kind, fields in events:
            data = {"type": kind, "sequence_number": self._sequence_number, **fields}
            self._sequence_number += 1
            chunks.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), encode_json(data)))
        return b"".join(chunks)


def _failure_code(status: int) -> str:
    """Return the code of a failed response; there are fewer than of errors."""
    if status == _TOO_MANY:
        return "rate_limit_exceeded"
    return "server_error" if status >= _INTERNAL else "invalid_prompt"


def _text_logprobs(choice: Choice) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of an answer's text; those of its thinking come before them."""
    if not choice.thinking:
        return tuple(choice.logprobs)
    missing_bytes = len(choice.text.encode())
    start = len(choice.logprobs)
    while start and missing_bytes > 0:
        start -= 1
        missing_bytes -= len(choice.logprobs[start].token)
    return tuple(choice.logprobs[start:])
