"""Modelfiles as text (contract/ollama.md 4.2, 4.3): a list of commands and how it is printed.

Pure text; knows nothing of the store and of which model a command came from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.go_text import format_value

# Commands whose name is their keyword; FROM is called `model`, any other name is a parameter's.
_KEYWORDS: Final = frozenset({"adapter", "license", "parser", "renderer", "system", "template"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command; a MESSAGE's value is `role: content`."""

    name: str
    value: str


def print_modelfile(commands: Iterable[Command]) -> str:
    """Return the commands as text that parses into the same commands again."""
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
    return [Command("message", f"{role}: {content}") for role, content in messages]


def _print_command(command: Command) -> str:
    match command.name:
        case "model":
            return f"FROM {command.value}"
        case "message":
            role, _, content = command.value.partition(": ")
            return f"MESSAGE {role} {_quote(content)}"
        case name if name in _KEYWORDS:
            return f"{name.upper()} {_quote(command.value)}"
        case name:
            return f"PARAMETER {name} {_quote(command.value)}"


def _quote(value: str) -> str:
    if "\n" not in value and not value.startswith(" ") and not value.endswith(" "):
        return value
    return f'"""{value}"""' if '"' in value else f'"{value}"'
