"""What each API route takes and answers, for the OpenAPI document: one table beside the URLconf.

A table and not attributes of the views, as `models_app.policy` is one: the upload of blobs has no
view, and one screen shows the whole API. Tests hold it to the URLconf and to what views read.
Knows types and names; the document is built by `ollamasite.openapi`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from inference.api import embed, replies, schemas
from inference.api.anthropic import schemas as anthropic_schemas
from inference.api.openai import chat_schemas, completions_schemas, embeddings
from inference.api.responses import objects as responses_objects
from inference.api.responses import schemas as responses_schemas
from ollamasite.http import EVENT_STREAM, NDJSON
from registry.api import create, job_schemas, storage, transfers
from registry.api import schemas as registry_schemas
from registry.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    `example` is a body that is answered, with the fields without which none is; `stream` is the
    media type of an answer that comes in pieces, empty where none does; `query` has a JSON Schema
    for each parameter behind the `?`. `summary` is wanted only where no view's docstring says it.
    """

    body: type[msgspec.Struct] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    takes_bytes: bool = False
    reply: type | None = None
    stream: str = ""
    statuses: tuple[int, ...] = (200,)
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
    summary: str = ""


def _takes(
    body: type[msgspec.Struct], reply: type | None, *, stream: str = "", **example: Any
) -> Operation:
    return Operation(body=body, reply=reply, example=example, stream=stream)


_MODEL: Final = "smollm2:135m"
_HELLO: Final = [{"role": "user", "content": "Hello"}]


_PAGE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    ("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}),
    ("after", {"type": "string"}),
)


_JOBS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("state", {"type": "string", "enum": ["active", "ended"]}),
    ("kind", {"type": "string", "enum": ["pull", "push", "create", "quantize", "verify", "gc"]}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
    ("all", {"type": "string", "enum": ["0", "1"], "default": "0"}),
)


# Keys are routes as the URLconf spells them, then methods in lower case.
OPERATIONS: Final[dict[str, dict[str, Operation]]] = {
    "api/version": {"get": Operation(reply=replies.VersionReply)},
    "api/status": {"get": Operation(reply=registry_schemas.StatusReply)},
    "api/storage": {"get": Operation(reply=storage.StorageReply)},
    "api/tags": {"get": Operation(reply=registry_schemas.TagsReply)},
    "api/ps": {"get": Operation(reply=replies.PsReply)},
    "api/queue": {"get": Operation(reply=replies.QueueReply)},
    "api/show": {
        "post": _takes(registry_schemas.ShowBody, registry_schemas.ShowReply, model=_MODEL)
    },
    "api/create": {
        "post": _takes(
            create.CreateBody, Progress, stream=NDJSON, **{"model": "mario", "from": _MODEL}
        )
    },
    "api/pull": {"post": _takes(transfers.TransferBody, Progress, stream=NDJSON, model=_MODEL)},
    "api/push": {
        "post": _takes(
            transfers.TransferBody, Progress, stream=NDJSON, model=f"hub.lab/my/{_MODEL}"
        )
    },
    "api/copy": {
        "post": _takes(registry_schemas.CopyBody, None, source=_MODEL, destination="backup")
    },
    "api/delete": {"delete": _takes(registry_schemas.DeleteBody, None, model="backup")},
    "api/blobs/<str:digest>": {
        "head": Operation(),
        "post": Operation(takes_bytes=True, statuses=(200, 201), summary="Send a file."),
    },
    "api/jobs": {
        "get": Operation(reply=job_schemas.JobsReply, query=_JOBS),
        "post": Operation(
            body=job_schemas.NewJobBody,
            reply=job_schemas.JobReply,
            example={"kind": "quantize", "from": _MODEL, "model": "small", "quantize": "F16"},
            statuses=(201,),
        ),
    },
    "api/jobs/<str:job_id>": {"get": Operation(reply=job_schemas.JobReply)},
    "api/jobs/<str:job_id>/cancel": {"post": Operation(reply=job_schemas.JobReply)},
    "api/jobs/<str:job_id>/retry": {"post": Operation(reply=job_schemas.JobReply)},
    "api/jobs/<str:job_id>/events": {"get": Operation(stream=NDJSON)},
    "api/generate": {
        "post": _takes(
            schemas.GenerateBody, replies.GenerateReply, stream=NDJSON, model=_MODEL, prompt="Hello"
        )
    },
    "api/chat": {
        "post": _takes(
            schemas.ChatBody, replies.ChatReply, stream=NDJSON, model=_MODEL, messages=_HELLO
        )
    },
    "api/embed": {"post": _takes(embed.EmbedBody, replies.EmbedReply, model=_MODEL, input="Hello")},
    "api/embeddings": {
        "post": _takes(embed.EmbeddingBody, replies.EmbeddingReply, model=_MODEL, prompt="Hello")
    },
    "v1/models": {"get": Operation(reply=registry_schemas.OpenAIModelList)},
    "v1/models/<path:name>": {
        "get": Operation(reply=registry_schemas.OpenAIModel),
        "delete": Operation(reply=registry_schemas.OpenAIModelDeleted),
    },
    "v1/chat/completions": {
        "post": _takes(
            chat_schemas.ChatCompletionBody,
            replies.ChatCompletionReply,
            stream=EVENT_STREAM,
            model=_MODEL,
            messages=_HELLO,
        )
    },
    "v1/completions": {
        "post": _takes(
            completions_schemas.CompletionBody,
            replies.CompletionReply,
            stream=EVENT_STREAM,
            model=_MODEL,
            prompt="Hello",
        )
    },
    "v1/responses": {
        "post": _takes(
            responses_schemas.ResponseBody,
            responses_objects.ResponseObject,
            stream=EVENT_STREAM,
            model=_MODEL,
            input="Hello",
        )
    },
    "v1/responses/input_tokens": {
        "post": _takes(
            responses_schemas.InputTokensBody, replies.TokenCountReply, model=_MODEL, input="Hello"
        )
    },
    "v1/responses/<str:response_id>": {
        "get": Operation(reply=responses_objects.ResponseObject),
        "delete": Operation(reply=replies.ResponseDeletedReply),
    },
    "v1/responses/<str:response_id>/input_items": {
        "get": Operation(reply=replies.ItemsReply, query=_PAGE)
    },
    "v1/responses/<str:response_id>/cancel": {"post": Operation(statuses=())},
    "v1/messages": {
        "post": _takes(
            anthropic_schemas.MessagesBody,
            replies.MessageReply,
            stream=EVENT_STREAM,
            model=_MODEL,
            messages=_HELLO,
            max_tokens=100,
        )
    },
    "v1/messages/count_tokens": {
        "post": _takes(
            anthropic_schemas.CountTokensBody,
            replies.MessageTokensReply,
            model=_MODEL,
            messages=_HELLO,
        )
    },
    "v1/embeddings": {
        "post": _takes(
            embeddings.EmbeddingsBody, replies.EmbeddingsReply, model=_MODEL, input="Hello"
        )
    },
}
