"""Replies against the pydantic models of OpenAI's own SDK, strictly.

The SDK itself takes whatever comes; here a missing field, a wrong type or an unknown literal fails.
Knows no site and no endpoint.
"""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.fakes.http import Answer

T = TypeVar("T", bound=BaseModel)

DONE: Final = b"[DONE]"


def checked(kind: type[T], body: bytes) -> T:
    """Return a body as one of the SDK's models. Raises pydantic's ValidationError."""
    found: T = _adapter(kind).validate_json(body, strict=True)
    return found


def checked_chunks(kind: type[T], answer: Answer) -> list[T]:
    """Return the chunks of a stream that ends with [DONE]."""
    *chunks, last = event_data(answer.body)
    assert last == DONE
    return [checked(kind, chunk) for chunk in chunks]


def checked_response_events(answer: Answer) -> list[Any]:
    """Return the events of a stream of `/v1/responses`: each is named as its own type says."""
    blocks = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    events = []
    for block in blocks:
        name, data = block.split(b"\n", 1)
        kind = name.removeprefix(b"event: ").decode()
        event = checked(_event_kinds()[kind], data.removeprefix(b"data: "))
        events.append(event)
    return events


def event_data(body: bytes) -> Sequence[bytes]:
    """Return the data of the events of a stream without names."""
    assert body.endswith(b"\n\n")
    blocks = body.removesuffix(b"\n\n").split(b"\n\n")
    assert all(block.startswith(b"data: ") for block in blocks)
    return [block.removeprefix(b"data: ") for block in blocks]


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


@cache
def _event_kinds() -> dict[str, type[BaseModel]]:
    union = ResponseStreamEvent
    if get_origin(union) is Annotated:
        union = get_args(union)[0]
    kinds: dict[str, type[BaseModel]] = {}
    for kind in get_args(union):
        [name] = get_args(kind.model_fields["type"].annotation)
        kinds[name] = kind
    return kinds
