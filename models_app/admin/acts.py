"""What can be done on the admin's pages, and the page that asks before it is done.

An act calls one service for each chosen row, or once where it is of none, and the service checks
and audits. Acts that cannot be taken back say what goes. Knows no table and no service.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from models_app.permissions import Principal
from ollamasite.errors import ServiceError

MOST_ROWS: Final = 200
# Of so many rows it is told what goes with each.
MOST_TOLD: Final = 20
Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown once, such as a new key: `secret` cannot be read again later."""

    title: str
    explains: str
    secret: str = field(repr=False)


class Doing:
    """One act as it is being done: who does it, over which request, with which values."""

    def __init__(self, request: HttpRequest, by: Principal, values: Values) -> None:
        self.by = by
        self.values = values
        self._request = request

    def absolute(self, path: str) -> str:
        """Return the whole address of a page of this site."""
        return self._request.build_absolute_uri(path)


def _nothing(_row: Any) -> Sequence[str]:
    return ()


def _no_values(_row: Any) -> Values:
    return {}


def _always(_row: Any) -> bool:
    return True


def _admins(principal: Principal) -> bool:
    return principal.is_admin


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something to do with chosen rows.

    `do` gets a row, None where the act `is_of_none`, and what the form has. `consequences` tells of
    a row what goes with it. `is_single`: it makes no sense for many rows at once. `is_for` says for
    which rows it is offered on their page.
    """

    name: str
    label: str
    explains: str
    do: Callable[[Doing, Any], Shown | None]
    form: type[forms.Form] = forms.Form
    initial: Callable[[Any], Values] = _no_values
    consequences: Callable[[Any], Sequence[str]] = _nothing
    is_for: Callable[[Any], bool] = _always
    is_of: Callable[[Principal], bool] = _admins
    is_of_none: bool = False
    is_single: bool = False
    is_grave: bool = False


@dataclass(slots=True)
class Outcome:
    """What has come of an act: for which rows it is done, what was wrong with others."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    shown: Shown | None = None


def perform(act: Act, doing: Doing, rows: Sequence[Any]) -> Outcome:
    """Do it, row by row: what is wrong with one keeps no other."""
    outcome = Outcome()
    for row in [None] if act.is_of_none else rows:
        told = str(row) if row is not None else ""
        try:
            outcome.shown = act.do(doing, row) or outcome.shown
        except ServiceError as error:
            outcome.failed.append(_sentence(told, [error.message]))
        except ValidationError as error:
            outcome.failed.append(_sentence(told, error.messages))
        else:
            outcome.done.append(told)
    return outcome


def _sentence(told: str, reasons: Sequence[str]) -> str:
    return ": ".join(filter(None, (told, " ".join(reasons))))
