"""What a client asks to have created, as names and digests, and the way from there to the model.

Here access is applied: a base is looked up as its caller sees it, and a file may only be used by
whoever may have it. Knows no HTTP; bodies are `registry.api.create`, Modelfiles
`registry.modelfile_request`.
"""

from dataclasses import dataclass, fields
from typing import Any

from models_app import selectors
from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from registry import library
from registry.create import CreateModel, NewContents, create_model
from registry.errors import BlobNotFound
from registry.library import ResolvedModel
from registry.progress import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest(NewContents):
    """What to create, by names. `base_name` is empty where the weights come from files."""

    name: str = ""
    base_name: str = ""

    def over(self, other: "CreateRequest") -> "CreateRequest":
        """Return this request; what it leaves empty is the other's."""
        return CreateRequest(**{name: value or getattr(other, name) for name, value in _all(self)})


def create(principal: Principal, request: CreateRequest, report: Report) -> ModelName:
    """Create what a caller asks for and return its name as it is stored.

    Raises ModelNotFound for a base that the caller may not see, BlobNotFound for such a file, and
    what create_model raises. Blocks.
    """
    library.write_target(principal, ModelName.parse(request.name))
    contents = {field.name: getattr(request, field.name) for field in fields(NewContents)}
    base = _base(principal, request.base_name) if request.base_name else None
    _check_files(principal, request)
    wanted = CreateModel(name=request.name, principal=principal, base=base, **contents)
    return create_model(wanted, report=report)


def _base(principal: Principal, name: str) -> ResolvedModel:
    # A base that is not here yet is the one thing that pulling it first would change.
    return library.resolve(principal, name, Verb.READ)


def _check_files(principal: Principal, request: CreateRequest) -> None:
    files = [*(request.files or {}).values(), *(request.adapters or {}).values()]
    for digest in dict.fromkeys(files):
        if not selectors.may_use_blob(principal, digest.hex):
            raise BlobNotFound(str(digest))


def _all(request: CreateRequest) -> list[tuple[str, Any]]:
    return [(field.name, getattr(request, field.name)) for field in fields(request)]
