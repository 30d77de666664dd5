"""`/`, `/api/version`, `/api/ps`, `/api/generate`, `/api/chat` in Ollama's own dialect.

Rules and shapes: contract/ollama.md 1.0 to 1.4, 1.7. Knows no engine, no socket and no row of
the database.
"""

import time
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from inference import generation
from inference.api.caller import caller_of
from inference.api.native_writers import ChatWriter, GenerateWriter
from inference.api.schemas import ChatBody, GenerateBody
from inference.api.streams import respond
from inference.loaded import visible_loaded
from inference.messages import LoadedModel
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.errors import MethodNotAllowed
from ollamasite.http import PLAIN, format_time, is_page_request, json_response
from registry import library
from registry.library import ModelDetails

# The Ollama whose contract this is: clients compare versions before they use a feature.
OLLAMA_VERSION: Final = "0.33.0"
_NS: Final = 1_000_000_000
_FOREVER_NS: Final = 2**63 - 1
# Of a model that was deleted while it is in memory.
_UNKNOWN: Final = ModelDetails(
    parent_model="",
    format="gguf",
    family="",
    families=None,
    parameter_size="",
    quantization_level="",
)


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
    """`GET /api/ps`; no HEAD, as in Ollama."""

    http_method_names = ["get"]

    async def get(self, request: Any) -> HttpResponse:
        """List the loaded models that the caller may know of."""
        loaded = await generation.loaded_models()
        listed = await sync_to_async(library.list_models)(request.user)
        details = {model.digest: model.details for model in listed}
        models = visible_loaded(request.user, loaded, listed)
        entries = [_ps_entry(model, details.get(model.digest, _UNKNOWN)) for model in models]
        return json_response({"models": entries})


class GenerateView(CallView):
    """`POST /api/generate`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Complete a prompt, or load or unload a model."""
        body = await read_body(
            request, GenerateBody, "GenerateRequest", empty_message=NATIVE_EMPTY_BODY
        )
        asked = body.to_request()
        is_streamed = body.stream and not (asked.is_load or asked.renders_only)
        writer = GenerateWriter(asked.model)
        return await respond(caller_of(request), asked, writer, is_streamed=is_streamed)


class ChatView(CallView):
    """`POST /api/chat`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Go on with a conversation, or load or unload a model."""
        body = await read_body(request, ChatBody, "ChatRequest", empty_message=NATIVE_EMPTY_BODY)
        asked = body.to_request()
        is_streamed = body.stream and not (asked.is_load or asked.renders_only)
        writer = ChatWriter(asked.model)
        return await respond(caller_of(request), asked, writer, is_streamed=is_streamed)


def _ps_entry(loaded: LoadedModel, details: ModelDetails) -> dict[str, Any]:
    left_s = loaded.expires_in_s
    left_ns = _FOREVER_NS if left_s is None else int(left_s * _NS)
    return {
        "name": loaded.name,
        "model": loaded.name,
        "size": loaded.size_bytes,
        "digest": loaded.digest,
        "details": details,
        "expires_at": format_time(time.time_ns() + left_ns, timezone.get_default_timezone()),
        "size_vram": loaded.size_vram_bytes,
        "context_length": loaded.context_length,
    }
