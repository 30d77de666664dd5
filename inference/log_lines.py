"""How a line of the log looks: text for people, or JSON for programs that collect lines.

Facts that go with a message (`extra=`) are shown where they are among FIELDS. Whatever is in a
message or in an exception, it makes one line of text and no other, and moves no cursor. Every
process of a site writes so, nodes on machines of their own too. Knows no Django and no request.
"""

import json
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from structlog.stdlib import ProcessorFormatter
    from structlog.typing import Processor

FIELDS: Final = (
    "request_id",
    "trace_id",
    "method",
    "route",
    "status",
    "dialect",
    "duration_ms",
    "user_id",
    "key_id",
    "call",
    "engine_id",
    "engine_ids",
    "model",
    "kind",
    "outcome",
    "error_code",
    "node",
    "runner",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "queue_ms",
    "load_ms",
    "prefill_ms",
    "decode_ms",
)
# C0, DEL and C1 control characters, line separators, and what turns the direction of text.
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_TURNS: Final = (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_NAMED: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_ESCAPES: Final = {code: _NAMED.get(code, f"\\u{code:04x}") for code in (*_CONTROLS, *_TURNS)}
_INDENT: Final = "    "


def escaped(text: str) -> str:
    """Return text that is one line and only text."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


class TextFormatter(logging.Formatter):
    """`12:00:01 INFO    ollamasite.access: request route=api/chat status=200`.

    The lines of a traceback are indented, so that none of them looks like a line of its own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line, its facts behind the message."""
        former = record.message
        facts = [f"{name}={_shown(fact)}" for name, fact in _facts_of(record)]
        record.message = escaped(" ".join([former, *facts]))
        try:
            return super().formatMessage(record)
        finally:
            record.message = former

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """Return a traceback."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's own name
        """Return where a line was logged."""
        return _indented(super().formatStack(stack_info))


def json_formatter(process: str, *further: "Processor") -> "ProcessorFormatter":
    """Return what makes a JSON object of each line; `process` is in all of them.

    `further` processors of structlog may add to it.
    """
    # Not at the top: text needs nothing of it, and it takes a tenth of a process's start.
    from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    def add_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return ProcessorFormatter(
        foreign_pre_chain=[
            add_log_level,
            add_logger_name,
            ExtraAdder(allow=FIELDS),
            TimeStamper(fmt="iso", utc=True),
            add_process,
            *further,
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            format_exc_info,
            JSONRenderer(serializer=_encode),
        ],
    )


def _encode(event: dict[str, Any], **_: Any) -> str:
    return json.dumps(event, default=repr)  # ASCII alone: nothing to escape is left


def _facts_of(record: logging.LogRecord) -> list[tuple[str, Any]]:
    found = ((name, getattr(record, name, None)) for name in FIELDS)
    return [(name, fact) for name, fact in found if fact is not None and fact != ""]


def _shown(fact: Any) -> str:
    text = ",".join(map(str, fact)) if isinstance(fact, list) else str(fact)
    return repr(text) if " " in text else text


def _indented(text: str) -> str:
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))
