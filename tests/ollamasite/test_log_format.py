"""Lines of the log: one for each record, whatever is in it."""

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.log_lines import TextFormatter
from ollamasite.log_format import json_formatter
from ollamasite.request_record import RequestRecord, current

HOSTILE = "x\n12:00:00 INFO    root: forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202etxt\u2028y\x00"


def record_of(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("site")
    return logger.makeRecord("site", logging.INFO, "x.py", 1, message, args, None, extra=extra)


def fail(text: str) -> None:
    raise ValueError(text)


def failed_record(text: str) -> logging.LogRecord:
    record = record_of("it failed")
    try:
        fail(text)
    except ValueError:
        record.exc_info = sys.exc_info()
    return record


def test_facts_stand_behind_the_message() -> None:
    record = record_of("request", route="api/chat", status=200, user_id=None, secret="s3cret")
    line = TextFormatter().format(record)

    assert line.endswith("INFO    site: request route=api/chat status=200")


def test_json_line_has_its_facts_and_nothing_that_is_not_listed() -> None:
    record = record_of("of %s", "a", route="api/chat", status=200, secret="s3cret")
    line = json.loads(json_formatter("web").format(record))

    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert line == {
        "event": "of a",
        "level": "info",
        "logger": "site",
        "process": "web",
        "route": "api/chat",
        "status": 200,
    }


def test_json_line_has_the_id_of_the_request_in_which_it_was_written() -> None:
    token = current.set(RequestRecord("req_1", takes_calls=True))
    try:
        line = json.loads(json_formatter("web").format(record_of("x")))
    finally:
        current.reset(token)

    assert line["request_id"] == "req_1"


@pytest.mark.parametrize("formatter", [TextFormatter(), json_formatter("web")])
@given(text=st.text() | st.just(HOSTILE))
def test_message_makes_one_line_and_no_control_character(
    formatter: logging.Formatter, text: str
) -> None:
    line = formatter.format(record_of("%s", text, model=text, route=text))

    assert len(line.splitlines()) == 1
    assert line.isprintable() or isinstance(formatter, TextFormatter)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    assert "\u202e" not in line
    line.encode()


def test_traceback_forges_no_line() -> None:
    lines = TextFormatter().format(failed_record(HOSTILE)).split("\n")

    assert all(line.startswith("    ") for line in lines[1:])
    assert not any("\x1b" in line or "\r" in line for line in lines)
    assert any(line.startswith("    ValueError: x") for line in lines)


def test_traceback_is_a_part_of_its_json_line() -> None:
    text = json_formatter("web").format(failed_record(HOSTILE))

    assert len(text.splitlines()) == 1
    assert "ValueError" in json.loads(text)["exception"]
