"""Modelfiles as text (contract/ollama.md 4.2, 4.3): a list of commands, quoting, printing.

Pure text; knows nothing of the store and of which model a command came from. The other way, from
text to commands, is `registry.modelfile_parser`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.go_text import format_value

# FROM is called `model` and PARAMETER by the parameter's own name; the others by their keyword.
MODEL: Final = "model"
MESSAGE: Final = "message"
KEYWORDS: Final = frozenset(
    {"adapter", "draft", "license", "parser", "renderer", "requires", "system", "template"}
)
_LONG: Final = '"""'
_SHORT: Final = '"'


@dataclass(frozen=True, slots=True)
class Command:
    """One command; a MESSAGE's value is `role: content`."""

    name: str
    value: str


def print_modelfile(commands: Iterable[Command]) -> str:
    """Return the commands as text that parses into the same commands again.

    What cannot be written at all (unprintable characters, both kinds of quotes in their closing
    places) is printed as Ollama does and read back as something else.
    """
    return "".join(f"{_print_command(command)}\n" for command in commands)


def parameter_commands(parameters: Mapping[str, Any]) -> list[Command]:
    """Return one command for each parameter, sorted by name; a list gives one for each item."""
    commands: list[Command] = []
    for name, value in sorted(parameters.items()):
        items = value if isinstance(value, list) else [value]
        commands += [Command(name, format_value(item)) for item in items]
    return commands


def message_commands(messages: Iterable[tuple[str, str]]) -> list[Command]:
    """Return one command for each pair of role and content."""
    return [Command(MESSAGE, f"{role}: {content}") for role, content in messages]


def unquote(text: str) -> str | None:
    """Return the value that a command's text stands for, None while a quote in it is open.

    There are no escapes: a value is closed where its text ends with the quotes it began with.
    """
    trimmed = text.strip(" \t\r\n")
    for quotes in (_LONG, _SHORT):
        if trimmed.startswith(quotes):
            size = len(quotes)
            is_closed = len(trimmed) >= 2 * size and trimmed.endswith(quotes)
            return trimmed[size:-size] if is_closed else None
    return trimmed


def _print_command(command: Command) -> str:
    match command.name:
        case "model":
            return f"FROM {command.value}"
        case "message":
            role, _, content = command.value.partition(": ")
            return f"MESSAGE {role} {_quote(content)}"
        case name if name in KEYWORDS:
            return f"{name.upper()} {_quote(command.value)}"
        case name:
            return f"PARAMETER {name} {_quote(command.value)}"


def _quote(value: str) -> str:
    # As Ollama does, unless that would read back as something else.
    needs_quotes = "\n" in value or value.startswith(" ") or value.endswith(" ")
    long, short = f"{_LONG}{value}{_LONG}", f"{_SHORT}{value}{_SHORT}"
    first = value if not needs_quotes else long if _SHORT in value else short
    return next((text for text in (first, long, short) if _reads_back(text, value)), first)


def _reads_back(text: str, value: str) -> bool:
    return unquote(text) == value and _open_until_end(text)


def _open_until_end(text: str) -> bool:
    """Whether no line before the last one closes the text."""
    head, newline, _ = text.replace("\r", "\n").rpartition("\n")
    if not newline:
        return True
    quotes = _LONG if text.startswith(_LONG) else _SHORT
    first, *others = head.split("\n")
    return unquote(first) is None and not any(
        line.rstrip(" \t").endswith(quotes) for line in others
    )
