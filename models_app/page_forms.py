"""What the forms of pages have in common: they call a service, and say what is wrong beside it.

Knows no page, no service and no table.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from django import forms
from django.core.exceptions import ValidationError

from models_app.errors import KeyTooWide, MemberNotFound, UserNotFound
from ollamasite.errors import BadRequest, Conflict, ServiceError

T = TypeVar("T")
Act = Callable[[], object]

# What somebody can mend by filling the form in another way.
_MENDABLE: Final = (BadRequest, Conflict, UserNotFound, MemberNotFound, KeyTooWide)


class PageForm(forms.Form):
    """A form whose text fields want no autocorrection, and in which typing begins at what is wrong.

    `attempt` is how it does what it is for.
    """

    def attempt(self, act: Callable[[], T]) -> T | None:
        """Do it with what was typed, or say what is wrong and return None.

        Refusals that no other text would change are raised.
        """
        try:
            if self.is_valid():
                return act()
        except ValidationError as error:
            self.add_error(None, error.messages)
        except _MENDABLE as error:
            self.add_error(None, sentence_of(error))
        self._begin_at_fault()
        return None

    def _begin_at_fault(self) -> None:
        wrong = next((name for name in self.errors if name in self.fields), "")
        name = wrong or next(iter(self.fields), "")
        if name:
            self.fields[name].widget.attrs["autofocus"] = True


def fault_of(act: Act) -> str:
    """Do something that needs no form. Return what stands in its way, in a sentence, or nothing.

    Refusals that no other state of things would change are raised.
    """
    try:
        act()
    except Conflict as error:
        return sentence_of(error)
    return ""


def sentence_of(error: ServiceError) -> str:
    """Return an error's message as a sentence for people."""
    text = error.message
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def text_field(label: str, *, required: str = "", most: int = 200, **attrs: Any) -> forms.CharField:
    """Return a line of text; `required`: what is said where it is empty, if it must not be."""
    plain = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
    return forms.CharField(
        label=label,
        max_length=most,
        required=bool(required),
        error_messages={"required": required} if required else {},
        widget=forms.TextInput(attrs=plain | attrs),
    )
