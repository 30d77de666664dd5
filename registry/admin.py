"""What the admin's pages do with models and jobs: the same calls as the API's.

Knows no table: `models_app.admin` shows them.
"""

from typing import Any, Final

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from models_app import selectors
from models_app.admin.acts import Act, Doing
from models_app.admin.library import TagAdmin
from models_app.admin.work import JobAdmin
from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from ollamasite.errors import Forbidden
from registry import library, upstreams_admin
from registry.jobs import submit
from registry.jobs.asking import Transfer, ask_collect, ask_pull, ask_verify

__all__ = ["reached_name", "upstreams_admin"]

_ACTIVE: Final = frozenset({"queued", "running"})
_AGAIN: Final = frozenset({"failed", "cancelled"})


class NameForm(forms.Form):
    """The name of a model."""

    name = forms.CharField(
        label="Name",
        max_length=700,
        help_text="Without a namespace: in the library.",
        widget=UnfoldAdminTextInputWidget,
    )


def reached_name(by: Principal, tag: Any) -> str:
    """Return the name by which somebody reaches this tag. Raises Forbidden where none does.

    Administering the site opens nobody's private models, and a name of another registry stands for
    one's own.
    """
    name: ModelName = tag.full_name
    found = selectors.find_tag(by, name, Verb.READ)
    if found is None or found.tag_id != tag.pk:
        raise Forbidden("it is a private model of somebody else")
    return name.full


def _operators(principal: Principal) -> bool:
    return principal.is_operator


def _copy(doing: Doing, tag: Any) -> None:
    library.copy_model(doing.by, reached_name(doing.by, tag), doing.values["name"])


def _delete(doing: Doing, tag: Any) -> None:
    library.delete_model(doing.by, reached_name(doing.by, tag))


def _pull(doing: Doing, _row: None) -> None:
    ask_pull(doing.by, Transfer(name=doing.values["name"], is_detached=True))


def _verify(doing: Doing, _row: None) -> None:
    ask_verify(doing.by)


def _collect(doing: Doing, _row: None) -> None:
    ask_collect(doing.by)


def _cancel(doing: Doing, job: Any) -> None:
    submit.cancel(doing.by, job.job_id)


def _retry(doing: Doing, job: Any) -> None:
    submit.retry(doing.by, job.job_id)


TagAdmin.offer(
    Act(
        name="pull",
        label="Pull a model",
        explains="A job fetches it from another registry for everybody here.",
        do=_pull,
        form=NameForm,
        is_of=_operators,
        is_of_none=True,
    ),
    Act(
        name="copy",
        label="Copy",
        explains="The model gets one more name; its files are there once.",
        do=_copy,
        form=NameForm,
        is_of=_operators,
        is_single=True,
    ),
    Act(
        name="delete",
        label="Delete",
        explains="These names go, and the files that no other name needs.",
        do=_delete,
        is_of=_operators,
        is_grave=True,
    ),
)
JobAdmin.offer(
    Act(
        name="cancel",
        label="Cancel",
        explains="A job that runs ends a moment later; what it has fetched stays for the next.",
        do=_cancel,
        is_for=lambda job: job.state in _ACTIVE,
        is_of=_operators,
        is_grave=True,
    ),
    Act(
        name="retry",
        label="Retry",
        explains="Jobs that failed or were cancelled are done again.",
        do=_retry,
        is_for=lambda job: job.state in _AGAIN,
        is_of=_operators,
    ),
    Act(
        name="verify",
        label="Verify all files",
        explains="A job reads every stored file and tells which are damaged.",
        do=_verify,
        is_of=_operators,
        is_of_none=True,
    ),
    Act(
        name="collect",
        label="Collect garbage",
        explains="A job removes the files that nothing needs any longer.",
        do=_collect,
        is_of=_operators,
        is_of_none=True,
        is_grave=True,
    ),
)
