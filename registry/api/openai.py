"""`/v1/models` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.6).

Knows no file, no row of the database and no engine.
"""

from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app.names import LIBRARY, ModelName
from models_app.permissions import Verb
from ollamasite.api_views import ReadView
from ollamasite.http import JSON, json_response
from registry import library
from registry.api.schemas import OpenAIModel, OpenAIModelDeleted


class ModelsView(ReadView):
    """`GET /v1/models`."""

    async def get(self, request: Any) -> HttpResponse:
        """List the models that the caller may see, the newest first."""
        listed = await sync_to_async(library.list_models)(request.user)
        data = [_entry(model.name, model.modified_at, model.namespace) for model in listed]
        return json_response({"object": "list", "data": data}, content_type=JSON, newline=True)


class ModelView(ReadView):
    """`GET` and `DELETE /v1/models/<name>`; the name may have `/` and `:` in it."""

    http_method_names = ["get", "head", "delete"]

    async def get(self, request: Any, name: str) -> HttpResponse:
        """Tell about one model under the name that was asked for."""
        asked = ModelName.parse(name)
        model = await sync_to_async(library.resolve)(request.user, asked, Verb.READ)
        namespace = ModelName.parse(model.full_name).namespace or LIBRARY
        entry = _entry(name, model.modified_at, namespace)
        return json_response(entry, content_type=JSON, newline=True)

    async def delete(self, request: Any, name: str) -> HttpResponse:
        """Delete a name."""
        await sync_to_async(library.delete_model)(request.user, name)
        answer = OpenAIModelDeleted(id=name, object="model", deleted=True)
        return json_response(answer, content_type=JSON, newline=True)


def _entry(name: str, modified_at: datetime, namespace: str) -> OpenAIModel:
    return OpenAIModel(
        id=name, object="model", created=int(modified_at.timestamp()), owned_by=namespace
    )
