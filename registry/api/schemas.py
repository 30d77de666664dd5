"""Bodies and answers of the registry's routes, in the wire's field order (contract 1.7, 1.8, 3.6).

Names and order only; knows no model and no HTTP.
"""

from typing import Any

import msgspec

from registry.errors import ModelRequired
from registry.library import ModelDetails
from registry.manifests import StoredMessage


class NamedBody(msgspec.Struct):
    """The body of a route about one model. `name` is what old clients send instead of `model`."""

    model: str = ""
    name: str = ""

    @property
    def asked_model(self) -> str:
        """The model's name as it was sent. Raises ModelRequired."""
        asked = self.model or self.name
        if not asked:
            raise ModelRequired
        return asked


class DeleteBody(NamedBody):
    """`DELETE /api/delete`."""


class ShowBody(NamedBody):
    """`POST /api/show`."""

    verbose: bool = False
    system: str = ""
    template: str = ""
    options: dict[str, Any] = {}


class ShowReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Answer of `/api/show`; fields without a default are always there."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    details: ModelDetails
    messages: tuple[StoredMessage, ...] = ()
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = {}
    tensors: list[dict[str, Any]] = []
    capabilities: tuple[str, ...] = ()
    modified_at: str = ""
    requires: str = ""


class CopyBody(msgspec.Struct):
    """`POST /api/copy`."""

    source: str = ""
    destination: str = ""


class TagDetails(ModelDetails, frozen=True, kw_only=True, omit_defaults=True):
    """`details` of `/api/tags`."""

    context_length: int = 0
    embedding_length: int = 0


class TagEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One model of `/api/tags`."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: TagDetails
    capabilities: tuple[str, ...] = ()


class OpenAIModel(msgspec.Struct, kw_only=True):
    """One model of `/v1/models`."""

    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModelDeleted(msgspec.Struct, kw_only=True):
    """Answer of `DELETE /v1/models/<name>`."""

    id: str
    object: str
    deleted: bool


class TagsReply(msgspec.Struct, kw_only=True):
    """Answer of `/api/tags`."""

    models: list[TagEntry]


class CloudStatus(msgspec.Struct, kw_only=True):
    """Whether models may run elsewhere."""

    disabled: bool
    source: str


class StatusReply(msgspec.Struct, kw_only=True):
    """Answer of `/api/status`."""

    cloud: CloudStatus


class OpenAIModelList(msgspec.Struct, kw_only=True):
    """Answer of `/v1/models`."""

    object: str
    data: list[OpenAIModel]
