"""What the upload page's script asks for: to begin a file, and to make a model of it.

Knows no page.
"""

from django import forms
from django.urls import reverse

from models_app.permissions import Principal
from ollamasite.errors import BadRequest
from registry import browser_uploads
from registry.browser_uploads import BegunUpload
from registry.create_request import CreateRequest
from registry.jobs.asking import ask_create
from registry.jobs.submit import require_place

# What the file is called in the model's parts: its own name is anybody's text and means nothing.
_FILE_NAME = "model.gguf"


class BeginForm(forms.Form):
    """A file to bring, and the name of the model."""

    name = forms.CharField(max_length=700)
    size = forms.IntegerField(min_value=0, max_value=2**62)

    def begin(self, principal: Principal) -> BegunUpload:
        """Begin the upload. Raises BadRequest, and what `browser_uploads.begin` raises."""
        _require_valid(self)
        said = self.cleaned_data
        return browser_uploads.begin(principal, said["name"], said["size"])


class FinishForm(forms.Form):
    """An upload of which all has come."""

    name = forms.CharField(max_length=700)
    repository = forms.CharField(max_length=300)
    session = forms.CharField(max_length=64)
    size = forms.IntegerField(min_value=1, max_value=2**62)

    def finish(self, principal: Principal) -> str:
        """Have a model made of the file; return the job's page.

        Raises BadRequest, and what `browser_uploads.finish` and `ask_create` raise.
        """
        _require_valid(self)
        said = self.cleaned_data
        # Before the upload ends, which would have to be sent again for nothing.
        browser_uploads.require_target(principal, said["name"])
        require_place(principal)
        digest = browser_uploads.finish(
            principal, said["repository"], said["session"], said["size"]
        )
        wanted = CreateRequest(name=said["name"], files={_FILE_NAME: digest})
        job = ask_create(principal, wanted, is_detached=True)
        return reverse("job", args=[job.job_id])


def _require_valid(form: forms.Form) -> None:
    if not form.is_valid():
        found = form.errors.get_json_data().items()
        told = [f"{name}: {error['message']}" for name, errors in found for error in errors]
        raise BadRequest("; ".join(told))
