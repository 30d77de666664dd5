"""`/`, `/api/version`, `/api/ps`, `/api/generate`, `/api/chat` in Ollama's own dialect.

Shapes and key order: contract/ollama.md 1.0 to 1.4, 1.7. Knows no engine, no socket and no row of
the database.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from inference import generation
from inference.api.answers import Answer, token_entry
from inference.api.priority import asked_priority
from inference.api.schemas import ChatBody, GenerateBody
from inference.api.streams import respond
from inference.loaded import visible_loaded
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Finished,
    LoadedModel,
    Token,
    TokenLogprob,
)
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import MethodNotAllowed, ServiceError
from ollamasite.http import (
    NDJSON,
    PLAIN,
    encode_json,
    format_time,
    is_page_request,
    json_response,
)
from registry import library
from registry.library import ListedModel

# The Ollama whose contract this is: clients compare versions before they use a feature.
OLLAMA_VERSION: Final = "0.33.0"
_NS: Final = 1_000_000_000
_FOREVER_NS: Final = 2**63 - 1


@csrf_exempt
async def root(request: HttpRequest) -> HttpResponse:
    """Say that the server runs; a browser is sent to the home page."""
    if request.method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(headers={"Allow": "GET, HEAD"})
    if is_page_request(request):
        return HttpResponseRedirect("/home")
    return HttpResponse("Ollama is running", content_type=f"{PLAIN}; charset=utf-8")


class VersionView(ReadView):
    """`GET /api/version`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell which Ollama's contract is spoken."""
        return json_response({"version": OLLAMA_VERSION})


class PsView(ReadView):
    """`GET /api/ps`."""

    async def get(self, request: Any) -> HttpResponse:
        """List the loaded models that the caller may know of."""
        loaded = await generation.loaded_models()
        listed = await sync_to_async(library.list_models)(request.user)
        by_digest = {model.digest: model for model in listed}
        models = visible_loaded(loaded, listed)
        return json_response({"models": [_ps_entry(m, by_digest[m.digest]) for m in models]})


class GenerateView(CallView):
    """`POST /api/generate`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Complete a prompt, or load or unload a model."""
        body = read_body(request, GenerateBody, "GenerateRequest", empty_message=NATIVE_EMPTY_BODY)
        asked = body.to_request()
        is_streamed = body.stream and not asked.is_load
        writer = GenerateWriter(asked.model)
        priority = asked_priority(request)
        return await respond(
            request.user, asked, writer, is_streamed=is_streamed, priority=priority
        )


class ChatView(CallView):
    """`POST /api/chat`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation, or load or unload a model."""
        body = read_body(request, ChatBody, "ChatRequest", empty_message=NATIVE_EMPTY_BODY)
        asked = body.to_request()
        is_streamed = body.stream and not asked.is_load
        writer = ChatWriter(asked.model)
        priority = asked_priority(request)
        return await respond(
            request.user, asked, writer, is_streamed=is_streamed, priority=priority
        )


class NativeWriter(ABC):
    """What the answers of both routes have in common: objects, one a line when streamed."""

    stream_type: ClassVar[str] = NDJSON
    stream_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, model: str) -> None:
        self._model = model

    @abstractmethod
    def content(self, text: str) -> dict[str, Any]:
        """Return where the route's object holds its text."""

    @abstractmethod
    def tail(
        self, finished: Finished, counters: Mapping[str, int], logprobs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a final object has behind its reason, in the route's order."""

    def piece(self, token: Token) -> bytes:
        """Return the line of a piece of text."""
        line = {**self._head(token.text), "done": False, **logprob_field(token.logprobs)}
        return encode_json(line) + b"\n"

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return nothing: there is one choice."""
        del ended
        return b""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return the last line."""
        return (
            encode_json(self._final(finished, finished.text, finished.logprobs, total_ns)) + b"\n"
        )

    def failure(self, error: ServiceError) -> bytes:
        """Return the last line of a stream that failed."""
        return encode_json(to_payload(error, Dialect.NATIVE)) + b"\n"

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the one object."""
        choice = answer.choices(finished)[0]
        return json_response(self._final(finished, choice.text, choice.logprobs, total_ns))

    def _head(self, text: str) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": format_time(time.time_ns()),
            **self.content(text),
        }

    def _final(
        self, finished: Finished, text: str, logprobs: Sequence[TokenLogprob], total_ns: int
    ) -> dict[str, Any]:
        end = {**self._head(text), "done": True, "done_reason": finished.reason}
        if finished.reason in {DoneReason.LOAD, DoneReason.UNLOAD}:
            return end
        return end | self.tail(finished, metrics(finished, total_ns), logprob_field(logprobs))


class GenerateWriter(NativeWriter):
    """Answers of `/api/generate`."""

    def content(self, text: str) -> dict[str, Any]:
        """Return the text as `response`."""
        return {"response": text}

    def tail(
        self, finished: Finished, counters: Mapping[str, int], logprobs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the token ids of prompt and answer, where they were asked for, and the rest."""
        context = {"context": finished.context} if finished.context else {}
        return {**context, **counters, **logprobs}


class ChatWriter(NativeWriter):
    """Answers of `/api/chat`."""

    def content(self, text: str) -> dict[str, Any]:
        """Return the text as a message."""
        return {"message": {"role": "assistant", "content": text}}

    def tail(
        self, finished: Finished, counters: Mapping[str, int], logprobs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return no context: chats carry their messages instead."""
        del finished
        return {**logprobs, **counters}


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


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    top = {"top_logprobs": [token_entry(other) for other in token.top]} if token.top else {}
    return {**token_entry(token), **top}


def _ps_entry(loaded: LoadedModel, listed: ListedModel) -> dict[str, Any]:
    left_s = loaded.expires_in_s
    left_ns = _FOREVER_NS if left_s is None else int(left_s * _NS)
    return {
        "name": loaded.name,
        "model": loaded.name,
        "size": loaded.size_bytes,
        "digest": loaded.digest,
        "details": listed.details,
        "expires_at": format_time(time.time_ns() + left_ns, timezone.get_default_timezone()),
        "size_vram": loaded.size_vram_bytes,
        "context_length": loaded.context_length,
    }
