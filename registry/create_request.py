"""What a client asks to have created, as names and digests, and the way from there to the model.

Here access is applied: a base is looked up as its caller sees it, and pulled where it is not here;
a file may only be used by whoever may have it. Knows no HTTP; bodies are `registry.api.create`,
Modelfiles `registry.modelfile_request`.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models_app import selectors
from models_app.errors import ModelNotFound
from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from registry import library
from registry.create import CreateModel, NewContents, create_model
from registry.errors import BlobNotFound, NotYourModel
from registry.library import ResolvedModel
from registry.progress import Progress, Report
from registry.pull import SUCCESS, PullArguments, pull_model

if TYPE_CHECKING:
    from registry.jobs.context import JobContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest(NewContents):
    """What to create, by names. `base_name` is empty where the weights come from files."""

    name: str = ""
    base_name: str = ""

    def over(self, other: "CreateRequest") -> "CreateRequest":
        """Return this request; what it leaves empty is the other's."""
        return CreateRequest(**{name: value or getattr(other, name) for name, value in _all(self)})


def check(principal: Principal, request: CreateRequest) -> None:
    """Refuse what can be told at once. Raises InvalidModelName, NotYourModel, BlobNotFound."""
    library.write_target(principal, ModelName.parse(request.name))
    _check_files(principal, request)


def create(principal: Principal, request: CreateRequest, report: Report) -> ModelName:
    """Create what a caller asks for and return its name as it is stored.

    A base that is not here is pulled first; of one that is, the caller has to be allowed to take
    the files. Raises ModelNotFound for one that they may not see and that no registry can have,
    NotYourModel for one that they may not copy, BlobNotFound for such a file, and what pull_model
    and create_model raise. Blocks.
    """
    check(principal, request)
    contents = {field.name: getattr(request, field.name) for field in fields(NewContents)}
    base = _base(principal, request.base_name, report) if request.base_name else None
    wanted = CreateModel(name=request.name, principal=principal, base=base, **contents)
    return create_model(wanted, report=report)


def run(context: "JobContext", arguments: CreateRequest) -> None:
    """Do a create job. Raises what `create` raises."""
    if context.principal is None:
        raise NotYourModel("a model is created for somebody")
    create(context.principal, arguments, context.report)


def _base(principal: Principal, name: str, report: Report) -> ResolvedModel:
    try:
        return library.resolve(principal, name, Verb.PULL)
    except ModelNotFound as error:
        return _pulled(principal, name, report, error)


def _pulled(
    principal: Principal, name: str, report: Report, missing: ModelNotFound
) -> ResolvedModel:
    """Return a base that another registry has. Raises `missing` for the name of somebody here."""
    try:
        library.pull_target(principal, ModelName.parse(name))
    except NotYourModel:
        raise missing from None

    def told(event: Progress) -> None:
        # Clients stop reading at the first success, and the model that they want comes after it.
        if event.status != SUCCESS:
            report(event)

    stored = pull_model(principal, PullArguments(name=name), told)
    return library.resolve(principal, stored, Verb.PULL)


def _check_files(principal: Principal, request: CreateRequest) -> None:
    files = [*(request.files or {}).values(), *(request.adapters or {}).values()]
    for digest in dict.fromkeys(files):
        if not selectors.may_use_blob(principal, digest.hex):
            raise BlobNotFound(str(digest))


def _all(request: CreateRequest) -> list[tuple[str, Any]]:
    return [(field.name, getattr(request, field.name)) for field in fields(request)]
