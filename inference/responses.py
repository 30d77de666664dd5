"""Conversations of `/v1/responses` as they are stored: ids that lead back, items out of JSON.

An item's id holds the id of the answer it came with, so an item that is only named is found without
a table of its own. Sync. Knows no HTTP and not what an item says.
"""

import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from models_app import responses as stored
from models_app.permissions import Principal

Item = dict[str, Any]

_PREFIX: Final = "resp_"
_ID_BYTES: Final = 16
_ITEM_ID: Final = re.compile(r"[a-z]{1,8}_([0-9a-f]{32})[0-9a-f]{1,8}")


class ItemIds:
    """Names one answer and, one after the other, the items that go in and come out of it."""

    def __init__(self) -> None:
        self._stem = secrets.token_hex(_ID_BYTES)
        self._count = 0

    @property
    def response_id(self) -> str:
        """The answer's own id."""
        return _PREFIX + self._stem

    def next(self, kind: str) -> str:
        """Return the id of the next item; `kind` is what it begins with."""
        self._count += 1
        return f"{kind}_{self._stem}{self._count:04x}"


def read_conversation(principal: Principal, last_id: str) -> list[Item]:
    """Return all items of a conversation, asked and answered, the first one first.

    Raises PreviousResponseNotFound, ConversationTooLong.
    """
    items: list[Item] = []
    for record in stored.read_conversation(principal, last_id):
        items += _items_of(record)
    return items


def find_items(principal: Principal, item_ids: Iterable[str]) -> dict[str, Item]:
    """Return those of the named items that are stored for the principal, by their ids.

    Raises ConversationTooLong.
    """
    wanted = set(item_ids)
    response_ids = {_response_of(item_id) for item_id in wanted} - {""}
    records = stored.find_responses(principal, response_ids)
    items = (item for record in records for item in _items_of(record))
    return {item["id"]: item for item in items if item["id"] in wanted}


def input_items(principal: Principal, response_id: str) -> list[Item]:
    """Return what was asked, in order. Raises ResponseNotFound."""
    items: list[Item] = msgspec.json.decode(stored.find_response(principal, response_id).input)
    return items


def _items_of(record: stored.ResponseRecord) -> list[Item]:
    asked: list[Item] = msgspec.json.decode(record.input)
    answered: list[Item] = msgspec.json.decode(record.body)["output"]
    return [*asked, *answered]


def _response_of(item_id: str) -> str:
    found = _ITEM_ID.fullmatch(item_id)
    return _PREFIX + found[1] if found else ""
