"""Lines of the log as JSON, with the id of the request in which they were written."""

from collections.abc import MutableMapping
from typing import Any

from structlog.stdlib import ProcessorFormatter

from inference import log_lines
from ollamasite.request_record import current


def json_formatter(process: str) -> ProcessorFormatter:
    """Return what makes a JSON object of each line; `process` is in all of them."""
    return log_lines.json_formatter(process, _add_request_id)


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if record := current.get():
        event.setdefault("request_id", record.request_id)
    return event
