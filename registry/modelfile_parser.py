"""Modelfile text → commands (contract/ollama.md 4.2), odd corners included.

Pure text; knows nothing of models, of the store and of what a parameter means: that is
`registry.create_request`.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Final

from registry.errors import InvalidModelfile
from registry.modelfile import KEYWORDS, MESSAGE, MODEL, Command, unquote

_COMMANDS: Final = (
    *("from", "license", "template", "system", "adapter", "renderer", "parser", "parameter"),
    *("message", "requires", "draft"),
)
_ROLES: Final = ("system", "user", "assistant")
NO_BASE: Final = "no FROM line"
_UNEXPECTED_END: Final = "unexpected EOF"
_LINE: Final = re.compile(r"([^\r\n]*)(\r|\n|\Z)")
_KEYWORD: Final = re.compile(r"([A-Za-z]*)(.?)(.*)", re.DOTALL)
_PARAMETER: Final = re.compile(r"([A-Za-z0-9_]*)[ \t](.*)", re.DOTALL)
_ROLE: Final = re.compile(r"([A-Za-z]*)[ \t](.*)", re.DOTALL)
_BLANKS: Final = " \t"
_MAX_CHARS: Final = 16 * 1024 * 1024
_KEPT: Final = frozenset("\t\r\n")
_ENCODINGS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse_modelfile(source: str | bytes) -> list[Command]:
    """Return the commands of a Modelfile in their order. Raises InvalidModelfile.

    Bytes are UTF-8, or UTF-16 with a byte order mark. There is at least one FROM.
    """
    lines = _Lines(_printable(source))
    commands = []
    while (found := _next_command(lines)) is not None:
        commands.append(found[1])
    if not any(command.name == MODEL for command in commands):
        raise InvalidModelfile(NO_BASE)
    return commands


def survey_modelfile(source: str) -> Iterator[tuple[int, Command | InvalidModelfile]]:
    """Yield each command with the number of its first line, and what is wrong in place of it.

    Goes on behind what is wrong, for whoever wants to know of everything at once. Raises
    InvalidModelfile for a text that is too long.
    """
    lines = _Lines(_printable(source))
    while True:
        try:
            found = _next_command(lines)
        except InvalidModelfile as error:
            yield lines.begun, error
            continue
        if found is None:
            return
        yield found


def _printable(source: str | bytes) -> str:
    if len(source) > _MAX_CHARS:
        raise InvalidModelfile(f"a Modelfile may have {_MAX_CHARS} characters at most")
    text = source if isinstance(source, str) else _decode(source)
    return "".join(char for char in text if char.isprintable() or char in _KEPT)


def _decode(source: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if source.startswith(mark):
            return source[len(mark) :].decode(encoding, "replace")
    return source.decode("utf-8", "replace")


class _Lines:
    """The lines of a text with the characters that end them; `number` counts from 1.

    `begun`: the number of the line in which the command begins that is being read.
    """

    def __init__(self, text: str) -> None:
        self._lines = _LINE.finditer(text)
        self.number = 0
        self.begun = 0

    def next(self) -> tuple[str, str] | None:
        """Return the next line and its end, None behind the last one."""
        found = next(self._lines, None)
        if found is None:
            return None
        self.number += 1
        return found[1], found[2]

    def refusal(self, message: str) -> InvalidModelfile:
        """Return the error of a command that begins in the current line."""
        return InvalidModelfile(f"(line {self.number}): {message}")


def _next_command(lines: _Lines) -> tuple[int, Command] | None:
    """Return the next command and the number of its first line; None behind the last one."""
    while (line := lines.next()) is not None:
        text = line[0].lstrip(_BLANKS)
        if text and not text.startswith("#"):
            lines.begun = lines.number
            name, role, rest = _head(text, lines)
            value = _value(rest, line[1], lines)
            return lines.begun, Command(name, f"{role}: {value}" if role else value)
    return None


def _head(text: str, lines: _Lines) -> tuple[str, str, str]:
    """Return a command's name, its role if it is a message, and the beginning of its value."""
    keyword, separator, rest = _split(_KEYWORD, text)
    keyword = keyword.lower()
    if keyword not in _COMMANDS or (separator and separator not in _BLANKS):
        allowed = ", ".join(f'"{name}"' for name in _COMMANDS)
        raise lines.refusal(f"command must be one of {allowed}")
    if not separator:
        raise InvalidModelfile(_UNEXPECTED_END)
    match keyword:
        case "from":
            return MODEL, "", rest
        case "parameter":
            name, rest = _split(_PARAMETER, rest)
            # A parameter that is called like a command could not be told from it.
            if not name or name in KEYWORDS or name in {MODEL, MESSAGE}:
                raise lines.refusal(f"unknown parameter '{name}'")
            return name, "", rest
        case "message":
            role, rest = _split(_ROLE, rest)
            if role not in _ROLES:
                raise lines.refusal('message role must be one of "system", "user", or "assistant"')
            return MESSAGE, role, rest
    return keyword, "", rest


def _split(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.fullmatch(text)
    if found is None:
        raise InvalidModelfile(_UNEXPECTED_END)
    return found.groups()


def _value(first: str, end: str, lines: _Lines) -> str:
    """Return a whole value, reading on while its quotes are open."""
    value = unquote(first)
    if value is not None:
        return value
    quotes = '"""' if first.lstrip(_BLANKS).startswith('"""') else '"'
    parts = [first, end]
    while (line := lines.next()) is not None:
        parts += line
        # Only the end of a line can close what an earlier one opened.
        if line[0].rstrip(_BLANKS).endswith(quotes):
            value = unquote("".join(parts))
            if value is not None:
                return value
    raise InvalidModelfile(_UNEXPECTED_END)
