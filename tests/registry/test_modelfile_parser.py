"""Modelfiles are read as contract 4.2 and 8.6 say, odd corners included."""

import codecs
import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidModelfile
from registry.modelfile import Command, print_modelfile
from registry.modelfile_parser import parse_modelfile

FROM = Command("model", "foo")


def values_of(text: str) -> list[tuple[str, str]]:
    return [(command.name, command.value) for command in parse_modelfile(text)]


def refusal_of(text: str) -> str:
    with pytest.raises(InvalidModelfile) as refusal:
        parse_modelfile(text)
    return refusal.value.message


# ------------------------------------------------------------------ commands and their layout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("FROM foo", "foo"),
        ("FROM  foo", "foo"),
        ("FROM\tfoo", "foo"),
        (" \t FROM foo \t", "foo"),
        ("from foo", "foo"),
        ("fRoM foo\r\n", "foo"),
        ("FROM lemons make lemonade ", "lemons make lemonade"),
        ("FROM a  b", "a  b"),
        ("FROM a\tb", "a\tb"),
        ("\n\n\r\nFROM foo\n\n", "foo"),
        ("FROM @sha256:ab", "@sha256:ab"),
        ('FROM "foo"', "foo"),
        ("FROM foo # bar", "foo # bar"),
        ("\x00FR\u200bOM fo\u200bo\x07", "foo"),
        ("\ufeffFROM foo", "foo"),
    ],
)
def test_from_is_read(text: str, value: str) -> None:
    assert values_of(text) == [("model", value)]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\n"])
def test_lines_end_as_on_any_system(end: str) -> None:
    text = end.join(["FROM foo", "# a comment", "  # another", "SYSTEM x", ""])
    assert values_of(text) == [("model", "foo"), ("system", "x")]


def test_every_command_has_its_name() -> None:
    text = (
        "FROM model\nADAPTER a\nLICENSE MIT\nPARAMETER param1 value1\nPARAMETER param2 value2\n"
        "TEMPLATE t\nSYSTEM s\nRENDERER r\nPARSER p\nREQUIRES 0.14.0\nDRAFT d\nMESSAGE user hi\n"
    )
    assert values_of(text) == [
        ("model", "model"),
        ("adapter", "a"),
        ("license", "MIT"),
        ("param1", "value1"),
        ("param2", "value2"),
        ("template", "t"),
        ("system", "s"),
        ("renderer", "r"),
        ("parser", "p"),
        ("requires", "0.14.0"),
        ("draft", "d"),
        ("message", "user: hi"),
    ]


def test_several_from_lines_are_all_kept() -> None:
    assert values_of("FROM a\nFROM b") == [("model", "a"), ("model", "b")]


def test_from_may_come_last() -> None:
    text = "PARAMETER what the \nFROM lemons make lemonade "
    assert values_of(text) == [("what", "the"), ("model", "lemons make lemonade")]


@pytest.mark.parametrize("text", ["", "\n", "# FROM x", "PARAMETER param1 value1", "SYSTEM x\n"])
def test_without_from_it_is_refused(text: str) -> None:
    assert refusal_of(text) == "no FROM line"


@pytest.mark.parametrize("line", ["BADCOMMAND param1 value1", "FROM: x", "FRO", "1FROM x", '"x"'])
def test_unknown_command_is_refused_with_its_line(line: str) -> None:
    assert refusal_of(f"\nFROM foo\n{line}\n").startswith(
        '(line 3): command must be one of "from", "license", "template", "system", "adapter", '
        '"renderer", "parser", "parameter", "message", "requires"'
    )


@pytest.mark.parametrize(
    "line",
    ["FROM", "SYSTEM", "PARAMETER", "PARAMETER param1", "MESSAGE", "MESSAGE system", "SYSTEM\n"],
)
def test_command_without_a_value_is_refused(line: str) -> None:
    assert refusal_of(f"FROM foo\n{line}") == "unexpected EOF"


def test_line_numbers_count_the_lines_of_values() -> None:
    assert refusal_of('FROM foo\nSYSTEM """a\nb\n"""\nBAD x').startswith("(line 5): ")


# ------------------------------------------------------------------ quotes


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("  plain  text  ", "plain  text"),
        ('"  one "', "  one "),
        ('""', ""),
        ('""""""', ""),
        ('"""one"""', "one"),
        ('"""\nThis is a\nmultiline text.\n"""', "\nThis is a\nmultiline text.\n"),
        ('"""\nThis is a\nmultiline text."""', "\nThis is a\nmultiline text."),
        ('"a\nb"', "a\nb"),
        ('"a\r\nb"', "a\r\nb"),
        ('"""a\n""\nb"""', 'a\n""\nb'),
        ('"""a" "b"""', 'a" "b'),
        ('"a "b" c"', 'a "b" c'),
        ('say "hi"', 'say "hi"'),
        ('say "hi', 'say "hi'),
        ("'one'", "'one'"),
        ('"\'"', "'"),
        ('"""""hi"""""', '""hi""'),
        ('"""He said:"\n"yes""""', 'He said:"\n"yes"'),
        ('"a\\"', "a\\"),
        ('"a\\nb"', "a\\nb"),
        ('"# no comment\n# none"', "# no comment\n# none"),
        ('"a"  ', "a"),
        ('"a" b\nc"', 'a" b\nc'),
    ],
)
def test_value_is_unquoted(written: str, value: str) -> None:
    text = f"FROM foo\nSYSTEM {written}\nTEMPLATE after\n"
    assert values_of(text) == [("model", "foo"), ("system", value), ("template", "after")]


@pytest.mark.parametrize(
    "written",
    ['"', '"""', '""""', '"""""', '"""a""', '"""a"', '"a', '"""a\n""', '"a\nb', '"""\na\n'],
)
def test_open_quotes_are_refused(written: str) -> None:
    assert refusal_of(f"FROM foo\nSYSTEM {written}") == "unexpected EOF"


def test_quotes_in_a_later_line_close_what_is_open() -> None:
    assert values_of('FROM foo\nSYSTEM "a\nTEMPLATE b"') == [
        ("model", "foo"),
        ("system", "a\nTEMPLATE b"),
    ]


# ------------------------------------------------------------------ parameters and messages


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("stop ### User: ", "### User:"),
        ("stop ###User:", "###User:"),
        ('stop "### User: "', "### User: "),
        ('stop """### User:\n"""', "### User:\n"),
        ('stop """\n### User:\n"""', "\n### User:\n"),
        ("stop <|endoftext|>", "<|endoftext|>"),
        ("stop </s>", "</s>"),
        ("stop", None),
        ("num_ctx 1", "1"),
        ("x1_Y  2", "2"),
    ],
)
def test_parameter_is_read(written: str, value: str | None) -> None:
    text = f"FROM foo\nPARAMETER {written}"
    if value is None:
        assert refusal_of(text) == "unexpected EOF"
    else:
        assert values_of(text)[1] == (written.split()[0], value)


@pytest.mark.parametrize(
    ("name", "shown"), [("", ""), ("system", "system"), ("model", "model"), ("message", "message")]
)
def test_parameter_without_a_name_of_its_own_is_refused(name: str, shown: str) -> None:
    assert refusal_of(f"FROM foo\nPARAMETER {name} x") == f"(line 2): unknown parameter '{shown}'"


def test_parameter_name_with_other_characters_is_refused() -> None:
    assert refusal_of("FROM foo\nPARAMETER a-b c") == "unexpected EOF"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("system You are a parser.", "system: You are a parser."),
        ('user """\nOne\ntwo\n"""', "user: \nOne\ntwo\n"),
        ('assistant " ho "', "assistant:  ho "),
        ("user a: b", "user: a: b"),
        ('user ""', "user: "),
    ],
)
def test_message_is_read(written: str, value: str) -> None:
    assert values_of(f"FROM foo\nMESSAGE {written}")[1] == ("message", value)


@pytest.mark.parametrize("written", ["badguy I'm bad", "User hi", " user hi", "tool x"])
def test_message_of_another_role_is_refused(written: str) -> None:
    assert refusal_of(f"FROM foo\nMESSAGE {written}") == (
        '(line 2): message role must be one of "system", "user", or "assistant"'
    )


# ------------------------------------------------------------------ encodings


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_bytes_are_read_in_their_encoding(mark: bytes, encoding: str) -> None:
    source = mark + "FROM bob\nSYSTEM Grüße, 你好 👋\n".encode(encoding)
    assert parse_modelfile(source) == [
        Command("model", "bob"),
        Command("system", "Grüße, 你好 👋"),
    ]


def test_broken_utf8_is_replaced() -> None:
    assert parse_modelfile(b"FROM foo\nSYSTEM a\xffb")[1].value == "a\ufffdb"


# ------------------------------------------------------------------ there and back

_PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" \n\"#'")
_VALUES = st.text(_PRINTABLE, max_size=40)
_NAMES = st.sampled_from(["system", "template", "license", "stop", "num_ctx", "adapter", "parser"])
_ROLES = st.sampled_from(["system", "user", "assistant"])
_COMMANDS = st.one_of(
    st.builds(Command, _NAMES, _VALUES),
    st.builds(lambda role, text: Command("message", f"{role}: {text}"), _ROLES, _VALUES),
)
# No quotes are left for a value that closes both kinds at the end of one of its lines.
_CLOSES = re.compile(r'"[ \t]*\n')


@given(st.lists(_COMMANDS, max_size=6))
def test_printed_commands_are_read_back(commands: list[Command]) -> None:
    writable = [command for command in commands if not _CLOSES.search(command.value)]
    assert parse_modelfile(print_modelfile([FROM, *writable])) == [FROM, *writable]


@given(st.text(st.sampled_from('aF "\n\r\t#:'), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidModelfile):
        assert parse_modelfile(f"FROM foo\n{text}")[0] == FROM


@pytest.mark.parametrize("value", ['"a"', '"', '""', 'a\n"b"', "a\rb", "\ta", 'x"\ny', " a\n"])
def test_value_that_needs_other_quotes_than_usual_is_read_back(value: str) -> None:
    commands = [FROM, Command("system", value)]
    assert parse_modelfile(print_modelfile(commands)) == commands
