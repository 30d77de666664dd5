"""`/v1/completions` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.5).

What a model thinks before it answers is not part of the text: it comes as `reasoning` beside it.
Knows no engine, no socket and no row of the database.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference.api.answers import Answer, Choice, Said, last_words
from inference.api.batches import respond_all
from inference.api.caller import caller_of
from inference.api.openai.completions_schemas import AskedCompletions, CompletionBody
from inference.api.openai.fields import usage_of
from inference.api.openai.legacy_logprobs import LogprobsWriter, joined, mean_logprob
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Event,
    Finished,
    PromptScored,
    Token,
    TokenLogprob,
    Usage,
)
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body, work_through
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError
from ollamasite.http import EVENT_STREAM, JSON, encode_json, json_response


class CompletionsView(CallView):
    """`POST /v1/completions`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Complete prompts, or load a model."""
        body = await read_body(
            request, CompletionBody, "openai.CompletionRequest", empty_message=OPENAI_EMPTY_BODY
        )
        asked = await work_through(request, body.to_request)
        writer = CompletionWriter(
            body.model, asked, includes_usage=body.stream_options.include_usage
        )
        return await respond_all(
            caller_of(request), asked.requests, writer, is_streamed=body.stream
        )


class CompletionWriter:
    """One answer to all prompts: choice `c` of prompt `p` has the index `p` × choices + `c`."""

    stream_type: ClassVar[str] = EVENT_STREAM
    stream_headers: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-cache"}

    def __init__(self, model: str, asked: AskedCompletions, *, includes_usage: bool) -> None:
        self._asked = asked
        self._count = asked.shown_choices
        self._open = set(range(len(asked.requests) * self._count))
        self._scores: dict[int, list[TokenLogprob]] = {}  # of prompts, until they are shown
        self._logprobs: dict[int, LogprobsWriter] = {}  # of choices that have begun
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
        }
        self._foot = {"model": model, "system_fingerprint": "fp_ollama"}
        self._includes_usage = includes_usage
        # What all chunks have in common is written once.
        foot = self._foot | ({"usage": None} if includes_usage else {})
        self._before = b"data: " + encode_json(self._head)[:-1] + b',"choices":['
        self._behind = b"]," + encode_json(foot)[1:] + b"\n\n"

    def event(self, number: int, event: Event) -> bytes:
        """Return the chunks of an event."""
        match event:
            case PromptScored(logprobs=logprobs):
                self._scores.setdefault(number, []).extend(logprobs)
            case Token(choice=choice, logprobs=logprobs):
                return self._said(number, choice, event, logprobs)
            case ChoiceEnded(choice=choice, reason=reason):
                return self._ended(number, choice, reason)
            case Finished(logprobs=logprobs):
                said = last_words(event)
                last = self._said(number, 0, said, logprobs) if event.text or logprobs else b""
                ends = [self._ended(number, c, event.reason) for c in range(self._count)]
                return last + b"".join(ends)
        return b""

    def end(self, ends: Sequence[Finished]) -> bytes:
        """Return the usage if it is wished, and [DONE]."""
        done = b"data: [DONE]\n\n"
        if not self._includes_usage:
            return done
        last = {**self._head, "choices": [], **self._foot, "usage": _usage(ends)}
        return b"data: " + encode_json(last) + b"\n\n" + done

    def failure(self, error: ServiceError) -> bytes:
        """Return an error event; both official SDKs raise on it. No [DONE] follows."""
        return b"data: " + encode_json(to_payload(error, Dialect.OPENAI)) + b"\n\n"

    def whole(self, answers: Sequence[Answer], ends: Sequence[Finished]) -> HttpResponse:
        """Return the one object."""
        choices: list[dict[str, Any]] = []
        for number, (answer, finished) in enumerate(zip(answers, ends, strict=True)):
            shown = self._best(answer.choices(finished))
            # Where nothing was generated there is one choice, however many were asked for.
            shown += [Choice(reason=finished.reason)] * (self._count - len(shown))
            for choice in shown:
                entry = self._whole_choice(number, choice, answer.prompt_logprobs)
                choices.append({"text": entry.pop("text"), "index": len(choices), **entry})
        body = {**self._head, **self._foot, "choices": choices, "usage": _usage(ends)}
        return json_response(body, content_type=JSON, newline=True)

    # ------------------------------------------------------------ in pieces

    def _said(
        self, number: int, choice: int, said: Said, logprobs: Sequence[TokenLogprob]
    ) -> bytes:
        index = number * self._count + choice
        begin = self._begun(number, index)
        written = self._logprobs[index].write(logprobs) if logprobs else None
        entry = self._entry(index, said.text, written)
        return begin + self._chunk(entry | _reasoning(said))

    def _begun(self, number: int, index: int) -> bytes:
        """Return the chunk with the prompt if the choice begins with it."""
        if index in self._logprobs:
            return b""
        scores = self._scores.get(number, [])
        text = self._prompt_text(number, scores)
        writer = self._logprobs[index] = self._logprobs_writer(text, scores)
        if not text:
            return b""
        return self._chunk(self._entry(index, text, writer.write(scores, is_prompt=True)))

    def _ended(self, number: int, choice: int, reason: DoneReason) -> bytes:
        index = number * self._count + choice
        if index not in self._open:
            return b""
        self._open.discard(index)
        begin = self._begun(number, index)
        return begin + self._chunk(self._entry(index, "", None, reason))

    def _entry(
        self,
        index: int,
        text: str,
        logprobs: Mapping[str, Any] | None,
        reason: DoneReason | None = None,
    ) -> dict[str, Any]:
        has_logprobs = self._asked.top_logprobs is not None and logprobs and logprobs["tokens"]
        return {
            "text": text,
            "index": index,
            "finish_reason": reason,
            "logprobs": logprobs if has_logprobs else None,
        }

    def _chunk(self, entry: Mapping[str, Any]) -> bytes:
        return self._before + encode_json(entry) + self._behind

    # ------------------------------------------------------------ whole

    def _best(self, choices: list[Choice]) -> list[Choice]:
        """Return as many choices as are shown, those with the most probable tokens first."""
        if len(choices) <= self._count:
            return choices
        ranked = sorted(choices, key=lambda choice: mean_logprob(choice.logprobs), reverse=True)
        return ranked[: self._count]

    def _whole_choice(
        self, number: int, choice: Choice, scores: Sequence[TokenLogprob]
    ) -> dict[str, Any]:
        prompt = self._prompt_text(number, scores)
        entry: dict[str, Any] = {"text": prompt + choice.text, "finish_reason": choice.reason}
        entry["logprobs"] = None
        if self._asked.top_logprobs is not None:
            writer = self._logprobs_writer(prompt, scores)
            before = writer.write(scores, is_prompt=True)
            entry["logprobs"] = joined(before, writer.write(choice.logprobs))
        return entry | _reasoning(choice)

    # ------------------------------------------------------------ the prompt in front

    def _prompt_text(self, number: int, scores: Iterable[TokenLogprob]) -> str:
        """Return the text that stands in front of a prompt's answers."""
        if not self._asked.echoes:
            return ""
        request = self._asked.requests[number]
        return request.prompt or _bytes_of(scores).decode("utf-8", "replace")

    def _logprobs_writer(self, prompt: str, scores: Sequence[TokenLogprob]) -> LogprobsWriter:
        told, shown = _bytes_of(scores), prompt.encode()
        hidden = len(told) - len(shown) if told.endswith(shown) else 0
        return LogprobsWriter(self._asked.top_logprobs or 0, hidden_bytes=hidden)


def _usage(ends: Iterable[Finished]) -> dict[str, Any]:
    """Return what the answers to all prompts have taken together."""
    usages = [finished.usage for finished in ends]
    together = Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
    return usage_of(together)


def _reasoning(said: Said) -> dict[str, str]:
    return {"reasoning": said.thinking} if said.thinking else {}


def _bytes_of(tokens: Iterable[TokenLogprob]) -> bytes:
    return b"".join(token.token for token in tokens)
