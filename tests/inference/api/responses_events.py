"""Reads the event streams of `/v1/responses`. Knows no event."""

import json
from typing import Any

from tests.fakes.http import Answer


def events_of(answer: Answer) -> list[dict[str, Any]]:
    """Return the data of all events, whose names and numbers are checked."""
    assert answer.content_type == "text/event-stream"
    assert answer.body.endswith(b"\n\n")
    found = []
    for number, block in enumerate(answer.text.removesuffix("\n\n").split("\n\n")):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        found.append(event)
    return found
