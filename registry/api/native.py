"""`/api/tags`, `/api/show` and `/api/status` in Ollama's own dialect (contract 1.1, 1.7, 1.8).

Knows no file, no row of the database and no engine.
"""

from datetime import datetime
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.utils import timezone
from msgspec import structs

from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from ollamasite import http
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.http import json_response
from registry import library, show
from registry.api.schemas import ShowBody, ShowReply, TagDetails, TagEntry
from registry.library import ListedModel
from registry.manifests import StoredMessage

_COPILOT: Final = "GitHubCopilotChat/"


# No model of this site runs in anybody's cloud, and that is how the site is configured.
_STATUS: Final = {"cloud": {"disabled": True, "source": "config"}}


class StatusView(ReadView):
    """`GET /api/status`; no HEAD, as in Ollama."""

    http_method_names = ["get"]

    async def get(self, request: Any) -> HttpResponse:
        """Tell that there is no cloud behind this site."""
        return json_response(_STATUS)


class TagsView(ReadView):
    """`GET /api/tags`."""

    async def get(self, request: Any) -> HttpResponse:
        """List the models that the caller may see, the newest first."""
        listed = await sync_to_async(library.list_models)(request.user)
        return json_response({"models": [_tag_entry(model) for model in listed]})


class ShowView(CallView):
    """`POST /api/show`."""

    async def post(self, request: Any) -> HttpResponse:
        """Tell everything about a model."""
        body = await read_body(request, ShowBody, "ShowRequest", empty_message=NATIVE_EMPTY_BODY)
        reply = await sync_to_async(_show_reply)(request.user, body)
        if request.headers.get("User-Agent", "").startswith(_COPILOT):
            # It shows this as the model's name, and would show the same one for all fine-tunes.
            reply.model_info["general.basename"] = body.asked_model
        return json_response(reply)


def format_time(moment: datetime) -> str:
    """Return a row's time in the site's zone as the wire has it."""
    time_ns = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    return http.format_time(time_ns, timezone.get_default_timezone())


def _tag_entry(model: ListedModel) -> TagEntry:
    return TagEntry(
        name=model.name,
        model=model.name,
        modified_at=format_time(model.modified_at),
        size=model.size_bytes,
        digest=model.digest,
        details=TagDetails(
            **structs.asdict(model.details),
            context_length=model.context_length or 0,
            embedding_length=model.embedding_length or 0,
        ),
        capabilities=model.capabilities,
    )


def _show_reply(principal: Principal, body: ShowBody) -> ShowReply:
    # Show names what is missing with its tag filled in (contract 2.3).
    model = library.resolve(principal, ModelName.parse(body.asked_model), Verb.READ)
    system = body.system or model.system
    return ShowReply(
        license="\n".join(model.license),
        modelfile=show.modelfile_text(model, system=system, options=body.options),
        parameters=show.parameters_text(model.parameters),
        template=model.template or show.jinja_template(model),
        system=system,
        renderer=model.config.get("renderer", ""),
        parser=model.config.get("parser", ""),
        details=model.details,
        messages=tuple(StoredMessage(role, content) for role, content in model.messages),
        model_info=show.model_info(model, is_verbose=body.verbose),
        projector_info=show.projector_info(model, is_verbose=body.verbose),
        tensors=show.tensors(model),
        capabilities=model.capabilities,
        modified_at=format_time(model.modified_at),
        requires=model.config.get("requires", ""),
    )
