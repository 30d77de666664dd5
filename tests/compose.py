"""`docker-compose.yml` as Docker would read it: merged, with the values of a `.env` put in.

Knows the file's form (https://docs.docker.com/reference/compose-file/) and no service of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = ROOT / "docker-compose.yml"
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[-?])([^}]*))?\})")


class MissingVariable(Exception):
    """A `${NAME:?why}` without a value, at which Docker stops."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what is run, with which environment, and what Docker is told of it."""

    name: str
    told: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """The arguments, the program first; none where the image has its own."""
        return [str(argument) for argument in self.told.get("command", ())]

    @property
    def environment(self) -> dict[str, str]:
        """What the container's processes have in their environment."""
        return {name: str(value) for name, value in self.told.get("environment", {}).items()}


def read(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with these values. Raises MissingVariable."""
    content = _put_in(yaml.safe_load(FILE.read_text()), values)
    assert isinstance(content, dict)
    return content


def services(values: Mapping[str, str]) -> dict[str, Service]:
    """Return the services by name. Raises MissingVariable."""
    return {name: Service(name, told) for name, told in read(values)["services"].items()}


def variables() -> dict[str, str | None]:
    """Return the file's variables with their defaults; None: there must be a value."""
    found: dict[str, str | None] = {}
    for match in _VARIABLE.finditer(FILE.read_text()):
        _, name, kind, text = match.groups()
        if name:
            found[name] = text if kind == ":-" else None
    return found


def _put_in(content: Any, values: Mapping[str, str]) -> Any:
    match content:
        case str():
            return _VARIABLE.sub(lambda match: _value(match, values), content)
        case dict():
            return {name: _put_in(value, values) for name, value in content.items()}
        case list():
            return [_put_in(value, values) for value in content]
        case _:
            return content


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    is_dollar, name, kind, text = match.groups()
    if is_dollar:
        return "$"
    if value := values.get(name):
        return value
    if kind == ":-":
        return str(text)
    raise MissingVariable(name)
