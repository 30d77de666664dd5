"""What each API route takes and answers, for the OpenAPI document: one table beside the URLconf.

A table and not attributes of the views, as `models_app.policy` is one: the upload of blobs has no
view, and one screen shows the whole API. Tests hold it to the URLconf and to what views read.
Knows types and names; the document is built by `ollamasite.openapi`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from inference.api import embed, nodes, replies, schemas
from inference.api.anthropic import schemas as anthropic_schemas
from inference.api.openai import chat_schemas, completions_schemas, embeddings
from inference.api.responses import objects as responses_objects
from inference.api.responses import schemas as responses_schemas
from models_app.api import access, audit, keys, limits, own_data, people_schemas, usage
from models_app.directory import USER_STATES
from models_app.usage import GROUPS, RequestRecord
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


_LINE: Final[dict[str, Any]] = {"type": "string", "maxLength": 200, "pattern": r"^[^\x00]*$"}
_AUDIT: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("actor", _LINE),
    ("action", _LINE),
    ("q", _LINE),
    ("since", {"type": "string", "format": "date-time"}),
    ("until", {"type": "string", "format": "date-time"}),
    ("before", {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
)


_BY_NAME: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
    ("after", {"type": "string"}),
)
_SEARCH: Final = (("q", {"type": "string"}), *_BY_NAME)
_USERS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("state", {"type": "string", "enum": [*filter(None, USER_STATES)]}),
    *_SEARCH,
)
_INVITES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("team", {"type": "string"}),
    ("state", {"type": "string", "enum": ["open", "all"], "default": "open"}),
    ("before", {"type": "integer", "minimum": 1}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
)
_WITH_MODELS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("with_models", {"type": "string", "enum": ["0", "1"], "default": "0"}),
)
_KEEP_SUCCESSORS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("keep_successors", {"type": "string", "enum": ["0", "1"], "default": "0"}),
)
_OWNER: Final[tuple[tuple[str, dict[str, Any]], ...]] = (("owner", {"type": "string"}),)
_DONE: Final = Operation(statuses=(204,))
_PASSWORD_LINK: Final = Operation(reply=people_schemas.PasswordLinkReply, statuses=(201,))


_WHOSE_USE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("since", {"type": "string"}),
    ("until", {"type": "string"}),
    ("team", {"type": "string"}),
    ("all", {"type": "string", "enum": ["0", "1"], "default": "0"}),
    ("user", {"type": "string"}),
    ("key", {"type": "string"}),
    ("model", {"type": "string"}),
)
_USAGE: Final = (*_WHOSE_USE, ("group_by", {"type": "string", "enum": list(GROUPS)}))
_REQUESTS: Final = (
    *_WHOSE_USE,
    ("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
    ("after", {"type": "string"}),
)
_EXPORT: Final = (*_WHOSE_USE, ("format", {"type": "string", "enum": ["csv", "json"]}))

# Keys are routes as the URLconf spells them, then methods in lower case.
OPERATIONS: Final[dict[str, dict[str, Operation]]] = {
    "api/version": {"get": Operation(reply=replies.VersionReply)},
    "api/status": {"get": Operation(reply=registry_schemas.StatusReply)},
    "api/storage": {"get": Operation(reply=storage.StorageReply)},
    "api/tags": {"get": Operation(reply=registry_schemas.TagsReply)},
    "api/ps": {"get": Operation(reply=replies.PsReply)},
    "api/queue": {"get": Operation(reply=replies.QueueReply)},
    "api/queue/<str:request_id>/cancel": {"post": _DONE},
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
    "api/nodes/join": {
        "post": _takes(
            nodes.JoinBody, nodes.JoinReply, address="gpu1:11500", fingerprint="0" * 64, protocol=6
        )
    },
    "api/nodes/blobs/<str:digest>": {"get": Operation(summary="Read a file; for nodes.")},
    "api/usage": {"get": Operation(reply=usage.UsageReply, query=_USAGE)},
    "api/usage/requests": {"get": Operation(reply=usage.RequestsReply, query=_REQUESTS)},
    "api/usage/export": {
        "get": Operation(reply=list[RequestRecord], stream="text/csv", query=_EXPORT)
    },
    "api/audit": {"get": Operation(reply=audit.AuditReply, query=_AUDIT)},
    "api/me": {
        "get": Operation(reply=people_schemas.MeReply),
        "patch": _takes(people_schemas.ChangeMeBody, people_schemas.MeReply, home_team=""),
    },
    "api/users": {
        "get": Operation(reply=people_schemas.UsersReply, query=_USERS),
        "post": Operation(
            body=people_schemas.NewUserBody,
            reply=people_schemas.PasswordLinkReply,
            example={"name": "carol"},
            statuses=(201,),
        ),
    },
    "api/users/<str:name>": {
        "get": Operation(reply=people_schemas.UserReply),
        "patch": _takes(
            people_schemas.ChangeUserBody, people_schemas.UserReply, site_role="auditor"
        ),
        "delete": Operation(query=_WITH_MODELS, statuses=(204,)),
    },
    "api/users/<str:name>/approve": {"post": Operation(reply=people_schemas.UserReply)},
    "api/users/<str:name>/activate": {"post": _DONE},
    "api/users/<str:name>/deactivate": {"post": _DONE},
    "api/users/<str:name>/sessions/end": {"post": _DONE},
    "api/users/<str:name>/password-link": {"post": _PASSWORD_LINK},
    "api/teams": {
        "get": Operation(reply=people_schemas.TeamsReply, query=_SEARCH),
        "post": Operation(
            body=people_schemas.NewTeamBody,
            reply=people_schemas.TeamReply,
            example={"name": "vision"},
            statuses=(201,),
        ),
    },
    "api/teams/<str:name>": {
        "get": Operation(reply=people_schemas.TeamReply),
        "patch": _takes(
            people_schemas.ChangeTeamBody, people_schemas.TeamReply, description="pictures"
        ),
        "delete": Operation(query=_WITH_MODELS, statuses=(204,)),
    },
    "api/teams/<str:name>/members": {
        "get": Operation(reply=people_schemas.MembersReply, query=_BY_NAME)
    },
    "api/teams/<str:name>/members/<str:user>": {
        "put": Operation(body=people_schemas.RoleBody, example={"role": "member"}, statuses=(204,)),
        "delete": _DONE,
    },
    "api/teams/<str:name>/service-accounts": {
        "get": Operation(reply=people_schemas.MembersReply, query=_BY_NAME),
        "post": Operation(
            body=people_schemas.NewServiceAccountBody,
            example={"name": "nightly-tests"},
            statuses=(201,),
        ),
    },
    "api/invites": {
        "get": Operation(reply=people_schemas.InvitesReply, query=_INVITES),
        "post": Operation(
            body=people_schemas.NewInviteBody,
            reply=people_schemas.NewInviteReply,
            example={"note": "for Carol"},
            statuses=(201,),
        ),
    },
    "api/invites/<str:invite_id>": {"delete": _DONE},
    "api/keys": {
        "get": Operation(reply=keys.KeysReply, query=_OWNER),
        "post": Operation(
            body=keys.NewKeyBody,
            reply=keys.NewKeyReply,
            example={"name": "laptop", "scopes": ["use"], "expires_in": "30d"},
            statuses=(201,),
        ),
    },
    "api/keys/<str:prefix>": {
        "get": Operation(reply=keys.KeyReply),
        "patch": _takes(keys.ChangeKeyBody, keys.KeyReply, name="laptop"),
        "delete": Operation(query=_KEEP_SUCCESSORS, statuses=(204,)),
    },
    "api/keys/<str:prefix>/rotate": {
        "post": Operation(
            body=keys.RotateKeyBody,
            reply=keys.NewKeyReply,
            example={"overlap": "1h"},
            statuses=(201,),
        ),
    },
    "api/me/export": {"get": Operation(reply=dict)},
    "api/me/delete": {
        "post": Operation(
            body=own_data.DeleteMeBody,
            example={"password": "the one I sign in with"},
            statuses=(204,),
        )
    },
    "api/limits": {
        "get": Operation(reply=limits.LimitsReply, query=(("model", {"type": "string"}),))
    },
    "api/limit-rules": {
        "get": Operation(reply=limits.RulesReply),
        "put": Operation(
            body=limits.RuleBody,
            reply=limits.RuleReply,
            example={
                "subject": "user",
                "name": "alice",
                "unit": "tokens",
                "period": "day",
                "amount": 100_000,
            },
        ),
    },
    "api/limit-rules/<int:rule_id>": {"delete": Operation(statuses=(204,))},
    "api/access": {
        "get": Operation(reply=access.AccessReply, query=(("model", {"type": "string"}),)),
        "patch": Operation(
            body=access.AccessBody,
            reply=access.AccessReply,
            example={"model": "alice/tuned", "add": [{"to": "bob", "verb": "use"}]},
        ),
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
