"""The form that has a model created from a Modelfile. Knows no page."""

from typing import Final

from django import forms

from models_app.jobs import JobRecord
from models_app.permissions import Principal
from ollamasite.errors import ServiceError
from registry import quantize
from registry.create_request import CreateRequest
from registry.jobs.asking import ask_create
from registry.modelfile_request import read_modelfile
from registry.pages.modelfile_check import Remark, check_modelfile, with_base

_MOST_CHARS: Final = 1024 * 1024
# Errors that are about the name alone.
_OF_NAME: Final = frozenset({"invalid_model_name", "not_your_model", "tag_is_immutable"})
_NAME_SHAPE: Final = "letters, digits, '.', '_' and '-', and a tag after a colon"


class CreateForm(forms.Form):
    """A name, a Modelfile, and what else is asked for."""

    name = forms.CharField(max_length=700, required=False)
    base = forms.CharField(max_length=700, required=False)
    quantize = forms.ChoiceField(
        required=False,
        choices=[(kind, kind) for kind in quantize.kinds()],
        error_messages={"invalid_choice": "Weights cannot be turned into that."},
    )
    modelfile = forms.CharField(max_length=_MOST_CHARS, required=False, strip=False)

    @property
    def text(self) -> str:
        """The Modelfile as it was written."""
        value = self["modelfile"].value() or ""
        return str(value).replace("\r\n", "\n").replace("\r", "\n")

    @property
    def line_numbers(self) -> range:
        """The numbers of its lines."""
        return range(1, self.text.count("\n") + 2)

    def remarks(self, principal: Principal) -> list[Remark]:
        """Return what there is to say about the Modelfile."""
        return check_modelfile(principal, self._whole_text())

    def submit(self, principal: Principal) -> JobRecord | None:
        """Have the model created; None where that is refused, and the form says why."""
        if not self.is_valid():
            return None
        if not self.cleaned_data["name"]:
            self.add_error("name", "Give the model a name.")
            return None
        try:
            wanted = CreateRequest(
                name=self.cleaned_data["name"], quantize=self.cleaned_data["quantize"]
            )
            request = wanted.over(read_modelfile(self._whole_text()))
            return ask_create(principal, request, is_detached=True)
        except ServiceError as error:
            self._refuse(error)
            return None

    def _whole_text(self) -> str:
        return with_base(self.text, str(self["base"].value() or ""))

    def _refuse(self, error: ServiceError) -> None:
        if error.code == "invalid_model_name":
            self.add_error("name", f"This is no name of a model: {_NAME_SHAPE}.")
        elif error.code in _OF_NAME:
            self.add_error("name", error.message)
        else:
            self.add_error("modelfile", error.message)


def first_text(base: str) -> str:
    """Return a Modelfile to begin with."""
    return f'FROM {base}\nPARAMETER temperature 0.7\nSYSTEM """\nYou answer in one sentence.\n"""\n'
