"""Whether a new chat template can be read, asked before a model with it is stored.

Templates are read by the part of the site that runs them, which this app must not import: it
hands its check in when Django starts (`ollamasite.apps`). Knows no template language.
"""

from collections.abc import Callable
from typing import Final

from registry.errors import InvalidTemplate

_checks: Final[list[tuple[Callable[[str], object], type[Exception]]]] = []


def use_check(check: Callable[[str], object], refusal: type[Exception]) -> None:
    """From now on read templates with `check`, which raises `refusal` for those it cannot read."""
    _checks[:] = [(check, refusal)]


def check_template(template: str) -> None:
    """Raise InvalidTemplate if the template cannot be read."""
    for check, refusal in _checks:
        try:
            check(template)
        except refusal as error:
            raise InvalidTemplate(str(error)) from error
