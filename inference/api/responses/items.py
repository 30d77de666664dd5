"""`input` of `/v1/responses` → items as they are stored and listed (contract/ollama.md 3.7).

Every item gets an id and the shape in which the SDK's types have it, whatever short form it came
in. Kinds that belong to tools which are not here are refused by name. Knows no template, no model
and no database: named items are handed in.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from inference.api.openai.fields import is_web_address
from inference.responses import Item, ItemIds
from ollamasite.errors import BadRequest, InvalidBody
from ollamasite.http import read_json_text

_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_STATUSES: Final = frozenset({"in_progress", "completed", "incomplete"})
_DETAILS: Final = frozenset({"auto", "low", "high", "original"})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the body something stands, as errors name it."""

    path: str

    def at(self, key: str | int) -> "_Place":
        return _Place(f"{self.path}[{key}]" if isinstance(key, int) else f"{self.path}.{key}")

    def refusal(self, reason: str) -> BadRequest:
        return BadRequest(f"{self.path}: {reason}", param=self.path)

    def text(self, item: Mapping[str, Any], key: str) -> str:
        """Return a field that must be there and be text."""
        value = item.get(key)
        if not isinstance(value, str):
            raise self.at(key).refusal("must be a string")
        return value


_INPUT: Final = _Place("input")


def named_items(value: Any) -> list[str]:
    """Return the ids of the items of an input that are only named."""
    items = value if isinstance(value, list) else []
    return [
        item["id"]
        for item in items
        if isinstance(item, dict)
        and _type_of(item) == "item_reference"
        and isinstance(item.get("id"), str)
    ]


def read_input(value: Any, ids: ItemIds, stored: Mapping[str, Item]) -> list[Item]:
    """Return the items of an input; `stored` has those that are only named. Raises BadRequest."""
    match value:
        case None:
            return []
        case str():
            message = {"role": "user", "content": value}
            return [_read_message(message, _INPUT, ids)]
        case list():
            names = named_items(value)
            if len(set(names)) < len(names):  # a few letters may stand for megabytes
                raise _INPUT.refusal("an item may be named only once")
            return [
                _read_item(item, _INPUT.at(number), ids, stored)
                for number, item in enumerate(value)
            ]
    raise _INPUT.refusal("must be a string or a list of items")


def image_addresses(items: Iterable[Item]) -> list[str]:
    """Return the web addresses of the images in items."""
    parts = (part for item in items for part in parts_of(item))
    return [part["image_url"] for part in parts if is_web_address(part.get("image_url"))]


def parts_of(item: Item) -> list[dict[str, Any]]:
    """Return the parts of a message or of a function's output; those of plain text are none."""
    parts = item.get("content") if item["type"] == "message" else item.get("output")
    return parts if isinstance(parts, list) else []


def _type_of(item: Mapping[str, Any]) -> Any:
    kind = item.get("type")
    if kind is None:
        return "message" if "role" in item else "item_reference"
    return kind


def _read_item(item: Any, place: _Place, ids: ItemIds, stored: Mapping[str, Item]) -> Item:
    if not isinstance(item, dict):
        raise place.refusal("must be an object")
    kind = _type_of(item)
    if kind == "item_reference":
        item_id = place.text(item, "id")
        if item_id not in stored:
            raise BadRequest(f"Item with id '{item_id}' not found.", param=place.path)
        return stored[item_id]
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise place.at("type").refusal(
            f"items of type {json.dumps(kind, ensure_ascii=False)} are not supported by this server"
        )
    return reader(item, place, ids)


def _read_message(item: Mapping[str, Any], place: _Place, ids: ItemIds) -> Item:
    role = place.text(item, "role").lower()
    if role not in _ROLES:
        raise place.at("role").refusal(f"must be one of {', '.join(sorted(_ROLES))}")
    content = item.get("content")
    if isinstance(content, str):
        parts = [_text_part(content, role)]
    elif isinstance(content, list):
        place = place.at("content")
        parts = [_read_part(part, place.at(at), role) for at, part in enumerate(content)]
    else:
        raise place.at("content").refusal("must be a string or a list of parts")
    return {**_head(item, "message", "msg", ids), "role": role, "content": parts}


def _read_call(item: Mapping[str, Any], place: _Place, ids: ItemIds) -> Item:
    if item.get("namespace"):
        raise place.at("namespace").refusal("is not supported by this server")
    arguments = place.text(item, "arguments")
    try:
        is_object = isinstance(read_json_text(arguments), dict)
    except InvalidBody:
        is_object = False
    if not is_object:
        raise place.at("arguments").refusal("must be the JSON text of an object")
    return {
        **_head(item, "function_call", "fc", ids),
        "call_id": place.text(item, "call_id"),
        "name": place.text(item, "name"),
        "arguments": arguments,
    }


def _read_call_output(item: Mapping[str, Any], place: _Place, ids: ItemIds) -> Item:
    output = item.get("output")
    if isinstance(output, list):
        parts = place.at("output")
        output = [_read_part(part, parts.at(at), "tool") for at, part in enumerate(output)]
    elif not isinstance(output, str):
        raise place.at("output").refusal("must be a string or a list of parts")
    return {
        **_head(item, "function_call_output", "fco", ids),
        "call_id": place.text(item, "call_id"),
        "output": output,
        **({"name": item["name"]} if isinstance(item.get("name"), str) else {}),
    }


def _read_reasoning(item: Mapping[str, Any], place: _Place, ids: ItemIds) -> Item:
    """Return what a model thought: `encrypted_content` is plain text, as Ollama has it."""
    read = _head(item, "reasoning", "rs", ids)
    for key, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = item.get(key)
        if not isinstance(parts, list | None):
            raise place.at(key).refusal("must be a list")
        if parts is not None or key == "summary":
            here = place.at(key)
            read[key] = [
                {"type": kind, "text": _thought(part, here.at(at))}
                for at, part in enumerate(parts or [])
            ]
    if item.get("encrypted_content") is not None:
        read["encrypted_content"] = place.text(item, "encrypted_content")
    return read


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], _Place, ItemIds], Item]]] = {
    "message": _read_message,
    "function_call": _read_call,
    "function_call_output": _read_call_output,
    "reasoning": _read_reasoning,
}


def _head(item: Mapping[str, Any], kind: str, prefix: str, ids: ItemIds) -> Item:
    """Return what items of all kinds begin with."""
    given, status = item.get("id"), item.get("status")
    return {
        "id": given if isinstance(given, str) and given else ids.next(prefix),
        "type": kind,
        "status": status if isinstance(status, str) and status in _STATUSES else "completed",
    }


def _thought(part: Any, place: _Place) -> str:
    if not isinstance(part, dict):
        raise place.refusal("must be an object")
    return place.text(part, "text")


def _read_part(part: Any, place: _Place, role: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise place.refusal("must be an object")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return _text_part(place.text(part, "text"), role)
        case "refusal":
            return {"type": "refusal", "refusal": place.text(part, "refusal")}
        case "input_image":
            return _read_image_part(part, place)
        case kind:
            shown = json.dumps(kind, ensure_ascii=False)
            raise place.at("type").refusal(f"{shown} is not supported by this server")


def _text_part(text: str, role: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def _read_image_part(part: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    if part.get("file_id") is not None:
        raise place.at("file_id").refusal("is not supported by this server")
    detail = part.get("detail")
    if detail is not None and (not isinstance(detail, str) or detail not in _DETAILS):
        raise place.at("detail").refusal(f"must be one of {', '.join(sorted(_DETAILS))}")
    url = place.text(part, "image_url")
    return {"type": "input_image", "detail": detail or "auto", "image_url": url}
