"""What is wrong with a Modelfile, everything at once, for whoever is writing it.

Looks as its author would: a base that they may not see is as one that is not there. Nothing is
fetched and nothing is made. Knows no HTTP.
"""

import re
from dataclasses import dataclass
from typing import Final

from models_app.errors import ModelNotFound
from models_app.permissions import Principal, Verb
from ollamasite.errors import ServiceError
from registry import library
from registry.errors import InvalidModelfile
from registry.jobs.asking import Transfer, places_of_pull
from registry.modelfile import MODEL, Command
from registry.modelfile_parser import NO_BASE, survey_modelfile
from registry.modelfile_request import check_command, read_modelfile
from registry.template_check import check_template

_MOST: Final = 50
_PLACE: Final = re.compile(r"\(line [0-9]+\): ")
_WORDS: Final = {
    "unexpected EOF": "something is missing here: a value, or the quotes that close it",
    NO_BASE: "there is no FROM line, which says what the model is made of",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to know about a Modelfile. `line` is None where it is about all of it."""

    line: int | None
    text: str
    is_error: bool = True


def with_base(text: str, base: str) -> str:
    """Return a Modelfile with a FROM line at its end, if one is chosen and it has none."""
    try:
        has_base = any(
            isinstance(found, Command) and found.name == MODEL
            for _, found in survey_modelfile(text)
        )
    except InvalidModelfile:
        has_base = True
    return text if has_base or not base else f"{text.rstrip()}\nFROM {base}\n".lstrip()


def check_modelfile(principal: Principal, text: str) -> list[Remark]:
    """Return the remarks about a Modelfile, in the order of its lines; none: it can be made."""
    try:
        remarks = _of_lines(principal, text)
        if not any(remark.is_error for remark in remarks):
            read_modelfile(text)
    except ServiceError as error:
        remarks = [_remark(None, error)]
    return remarks


def _of_lines(principal: Principal, text: str) -> list[Remark]:
    remarks: list[Remark] = []
    bases = 0  # each is looked up
    for line, found in survey_modelfile(text):
        if len(remarks) >= _MOST or bases >= _MOST:
            break
        if isinstance(found, Command):
            bases += found.name == MODEL
            remarks += _of_command(principal, line, found)
        else:
            remarks.append(_remark(line, found))
    # A line that cannot be read may be the one that is missed.
    if not bases and not remarks:
        remarks.append(Remark(None, _sentence(NO_BASE)))
    return remarks


def _of_command(principal: Principal, line: int, command: Command) -> list[Remark]:
    try:
        check_command(command)
        if command.name == "template":
            check_template(command.value)
        if command.name == MODEL and not command.value.startswith(("@", "/")):
            return _of_base(principal, line, command.value)
    except ServiceError as error:
        return [_remark(line, error)]
    return []


def _of_base(principal: Principal, line: int, name: str) -> list[Remark]:
    """Say where a base comes from that is not here. Raises what refuses it."""
    try:
        library.resolve(principal, name, Verb.PULL)
    except ModelNotFound:
        _, remote = places_of_pull(principal, Transfer(name=name))
        told = f"{name} is not here: it is pulled from {remote.origin.authority} first."
        return [Remark(line, told, is_error=False)]
    return []


def _remark(line: int | None, error: ServiceError) -> Remark:
    return Remark(line, _sentence(_PLACE.sub("", error.message, count=1)))


def _sentence(message: str) -> str:
    message = _WORDS.get(message, message)
    return f"{message[:1].upper()}{message[1:]}"
