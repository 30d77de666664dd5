"""The log of several processes: prefixes, lines cut anywhere, bytes that are no text."""

import io
import json
import logging

from ollamasite.process_log import LineSplitter, ProcessLog, ProcessLogHandler


def test_each_line_begins_with_the_name_of_its_process() -> None:
    output = io.StringIO()

    LineSplitter(ProcessLog(output), "web").feed(b"one\ntwo\n")

    assert output.getvalue() == "web       | one\nweb       | two\n"


def test_line_that_arrives_in_parts_is_written_once_it_is_whole() -> None:
    output = io.StringIO()
    lines = LineSplitter(ProcessLog(output), "web")

    lines.feed("Gr\u00fc".encode()[:3])
    lines.feed("Gr\u00fc".encode()[3:] + b"n")
    before_newline = output.getvalue()
    lines.feed(b"\r\n")

    assert (before_newline, output.getvalue()) == ("", "web       | Gr\u00fcn\n")


def test_last_words_without_newline_are_written_at_the_end() -> None:
    output = io.StringIO()
    lines = LineSplitter(ProcessLog(output), "web")

    lines.feed(b"killed in the middle of")
    lines.close()

    assert output.getvalue() == "web       | killed in the middle of\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    output = io.StringIO()

    LineSplitter(ProcessLog(output), "web").feed(b"a\xff\xfeb\n")

    assert output.getvalue() == "web       | a\ufffd\ufffdb\n"


def test_line_without_end_is_written_in_pieces_before_it_ends() -> None:
    output = io.StringIO()
    lines = LineSplitter(ProcessLog(output), "web")

    lines.feed(b"x" * 20_000)
    written = output.getvalue().splitlines()
    lines.close()

    assert [len(line) for line in written] == [12 + 8192, 12 + 8192]
    assert output.getvalue().count("x") == 20_000


def test_prefix_alone_is_coloured_on_a_terminal() -> None:
    output = io.StringIO()

    ProcessLog(output, is_coloured=True).write("web", "line")

    assert output.getvalue().startswith("\x1b[")
    assert output.getvalue().endswith("web       | \x1b[0mline\n")


def test_output_that_is_gone_stops_nobody() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError(text)

    ProcessLog(Gone()).write("web", "line")


def test_own_traceback_stands_under_the_same_name_line_by_line() -> None:
    output = io.StringIO()
    handler = ProcessLogHandler(ProcessLog(output), "serve")

    handler.handle(logging.makeLogRecord({"msg": "first\nsecond", "levelno": logging.ERROR}))

    assert output.getvalue() == "serve     | first\nserve     | second\n"


def test_json_of_a_process_is_passed_on_and_all_else_becomes_json() -> None:
    output = io.StringIO()
    lines = LineSplitter(ProcessLog(output, is_json=True), "web")

    lines.feed(b'{"event": "one"}\nplain "text"\n{torn\n[1]\n')

    assert output.getvalue().splitlines()[0] == '{"event": "one"}'
    wrapped = [json.loads(line) for line in output.getvalue().splitlines()[1:]]
    assert [line["event"] for line in wrapped] == ['plain "text"', "{torn", "[1]"]
    assert {line["process"] for line in wrapped} == {"web"}
