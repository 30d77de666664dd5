"""The OpenAPI document as a page tells it: groups of operations, fields in rows, types in words.

Made from `ollamasite.openapi.document` alone, so that the page cannot tell anything else. Knows no
caller, no address of the site and no template.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from ollamasite.openapi import document

_DEPTH: Final = 5  # of fields in fields; deeper ones are what a client sends back as it got them
_JSON: Final = "application/json"
_BYTES: Final = "application/octet-stream"
_SUCCESSES: Final = "2"
_STREAMS: Final = {
    "application/x-ndjson": "NDJSON: one JSON object a line",
    "text/event-stream": "Server-sent events",
    "text/csv": "CSV",
}
# Groups in the order of the page; the first prefix that fits a path decides.
_GROUPS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        "Chat and generate",
        "Ollama's dialect. Answers come in pieces unless stream is false.",
        ("/api/chat", "/api/generate", "/api/embed"),
    ),
    (
        "Models",
        "Ollama's dialect: what there is, what is in memory, and what is done to models.",
        (
            "/api/tags",
            "/api/ps",
            "/api/show",
            "/api/create",
            "/api/pull",
            "/api/push",
            "/api/copy",
            "/api/delete",
            "/api/blobs",
            "/api/access",
            "/api/storage",
        ),
    ),
    ("Queue and jobs", "Who waits, and what goes on by itself.", ("/api/queue", "/api/jobs")),
    ("Nodes", "For machines that run models for this site.", ("/api/nodes",)),
    (
        "OpenAI",
        "OpenAI's dialect, for its SDKs and for what speaks to them.",
        (
            "/v1/chat",
            "/v1/completions",
            "/v1/responses",
            "/v1/embeddings",
            "/v1/models",
        ),
    ),
    ("Anthropic", "Anthropic's dialect, for its SDKs.", ("/v1/messages",)),
    (
        "Keys, usage and limits",
        "What one's programs may do, have done and may still do.",
        ("/api/keys", "/api/usage", "/api/limit"),
    ),
    (
        "People and teams",
        "Oneself, others, teams and how people come in.",
        ("/api/me", "/api/users", "/api/teams", "/api/invites"),
    ),
    ("The site", "What it is and what was done there.", ("/api/",)),
)


@dataclass(frozen=True, slots=True)
class FieldShown:
    """A field of a body or an answer, or a parameter. `name` goes `outer[].inner`."""

    name: str
    kind: str
    is_required: bool = False
    default: str = ""
    about: str = ""

    @property
    def depth(self) -> int:
        """How deep it lies in others."""
        return self.name.count(".")


@dataclass(frozen=True, slots=True)
class OperationShown:
    """A method of a path. `example` is a body that is answered, None where none is taken."""

    id: str
    method: str
    path: str
    summary: str
    access: str
    path_parameters: tuple[FieldShown, ...]
    query_parameters: tuple[FieldShown, ...]
    takes_bytes: bool
    example: dict[str, Any] | None
    fields: tuple[FieldShown, ...]
    statuses: str
    stream: str
    reply: tuple[FieldShown, ...]

    @property
    def is_destructive(self) -> bool:
        """Whether what it takes away does not come back."""
        return self.method == "DELETE" or self.path.endswith("/delete")

    @property
    def example_text(self) -> str:
        """The body to send, laid out for people."""
        return "" if self.example is None else json.dumps(self.example, indent=2)

    @property
    def searched(self) -> str:
        """What a search looks through."""
        return f"{self.method} {self.path} {self.summary}".lower()


@dataclass(frozen=True, slots=True)
class GroupShown:
    """Operations that belong together."""

    name: str
    about: str
    operations: tuple[OperationShown, ...]


@cache
def groups() -> tuple[GroupShown, ...]:
    """Return everything, in the order in which one reads it."""
    made: dict[str, list[OperationShown]] = {name: [] for name, _, _ in _GROUPS}
    for shown in _operations(document()):
        made[_group_of(shown.path)].append(shown)
    return tuple(GroupShown(name, about, tuple(made[name])) for name, about, _ in _GROUPS)


def found(words: str) -> tuple[GroupShown, ...]:
    """Return the groups with what has all these words; those with nothing are left out."""
    wanted = words.lower().split()
    narrowed = [
        GroupShown(
            group.name,
            group.about,
            tuple(
                shown
                for shown in group.operations
                if all(word in shown.searched for word in wanted)
            ),
        )
        for group in groups()
    ]
    return tuple(group for group in narrowed if group.operations)


@cache
def by_id() -> Mapping[str, OperationShown]:
    """Return every operation by the id that the document gives it."""
    return {shown.id: shown for group in groups() for shown in group.operations}


def _group_of(path: str) -> str:
    return next(
        name for name, _, prefixes in _GROUPS if any(path.startswith(start) for start in prefixes)
    )


def _operations(described: dict[str, Any]) -> Iterator[OperationShown]:
    components = described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield _operation(method.upper(), path, operation, components)


def _operation(
    method: str, path: str, operation: dict[str, Any], components: dict[str, Any]
) -> OperationShown:
    body = operation.get("requestBody", {}).get("content", {})
    taken = body.get(_JSON, {})
    good = {
        status: answer.get("content", {})
        for status, answer in operation["responses"].items()
        if status.startswith(_SUCCESSES)
    }
    none: dict[str, Any] = {}
    reply = next((content for content in good.values() if content), none)
    streams = [words for media, words in _STREAMS.items() if media in reply]
    return OperationShown(
        id=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"].replace("`", ""),
        access=operation["description"].replace("`", ""),
        path_parameters=tuple(_parameters(operation, "path")),
        query_parameters=tuple(_parameters(operation, "query")),
        takes_bytes=_BYTES in body,
        example=taken.get("example"),
        fields=tuple(_fields(taken.get("schema", {}), components)),
        statuses=" or ".join(good),
        stream=streams[0] if streams else "",
        reply=tuple(_fields(reply.get(_JSON, {}).get("schema", {}), components)),
    )


def _parameters(operation: dict[str, Any], place: str) -> Iterator[FieldShown]:
    for parameter in operation["parameters"]:
        if parameter["in"] == place:
            schema = parameter["schema"]
            yield FieldShown(
                name=parameter["name"],
                kind=_words(schema),
                is_required=parameter["required"],
                default=_default(schema),
                about=parameter.get("description", ""),
            )


# ------------------------------------------------------------------ schemas


def _fields(
    schema: dict[str, Any], components: dict[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[FieldShown]:
    """Yield the fields of an object and of what is in them, outer ones first."""
    required = set(schema.get("required", ()))
    for properties, wanted in _objects(schema, components):
        for name, inner in properties.items():
            if name.startswith("_"):
                continue
            shown = f"{prefix}{name}"
            yield FieldShown(
                name=shown,
                kind=_words(inner),
                is_required=name in required | wanted,
                default=_default(inner),
            )
            if depth < _DEPTH:
                yield from _inside(inner, components, shown, depth)


def _inside(
    schema: dict[str, Any], components: dict[str, Any], name: str, depth: int
) -> Iterator[FieldShown]:
    seen = set()
    for kind in _alternatives(schema):
        items = kind.get("items")
        is_list = isinstance(items, dict)
        within = items if is_list and isinstance(items, dict) else kind
        for field in _fields(
            within, components, f"{name}[]." if is_list else f"{name}.", depth + 1
        ):
            if field.name not in seen:
                seen.add(field.name)
                yield field


def _objects(
    schema: dict[str, Any], components: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Yield the properties of every object that a schema may be, with those that are required."""
    for kind in _alternatives(schema):
        target = kind
        if reference := kind.get("$ref"):
            target = components[reference.rpartition("/")[2]]
        if "properties" in target:
            yield target["properties"], set(target.get("required", ()))
        elif "anyOf" in target:
            yield from _objects(target, components)


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    for together in ("anyOf", "allOf", "oneOf"):
        if together in schema:
            return [inner for each in schema[together] for inner in _alternatives(each)]
    return [schema]


def _words(schema: dict[str, Any]) -> str:
    """Return a type in words, as short as they go."""
    told = dict.fromkeys(_word(kind) for kind in _alternatives(schema))
    told.pop("null", None)
    return " or ".join(told) or "null"


def _word(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return " | ".join(json.dumps(value) for value in kind["enum"])
    if "const" in kind:
        return json.dumps(kind["const"])
    if "$ref" in kind:
        return "object"
    if kind.get("type") == "array":
        items = kind.get("items")
        return f"list of {_words(items)}" if isinstance(items, dict) and items else "list"
    told = kind.get("type", "any")
    return told if isinstance(told, str) else " or ".join(told)


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, "", [], {}) else json.dumps(default)
