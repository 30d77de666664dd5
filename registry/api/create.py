"""`POST /api/create` in both generations: today's fields, and the older `modelfile` text.

Fields, statuses and refusals: contract/ollama.md 2.5, 4.4 and 4.5. Knows no file and no row of
the database.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
from django.http.response import HttpResponseBase

from models_app.jobs import JobRecord
from models_app.permissions import Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from registry.api import progress_stream
from registry.create_request import CreateRequest
from registry.digest import Digest
from registry.errors import CloudDisabled, InvalidCreate
from registry.jobs.asking import ask_create
from registry.modelfile_request import read_modelfile


class MessageBody(msgspec.Struct):
    """One stored message; its other fields are not kept."""

    go_name: ClassVar[str] = "Alias"

    role: str = ""
    content: str = ""


class CreateBody(msgspec.Struct):
    """The body of `/api/create`. `name` and `quantization` are what old clients send.

    `modelfile` and `path` are looked at only where nothing of today's says what to make.
    """

    model: str = ""
    name: str = ""
    stream: bool = True
    source: str = msgspec.field(default="", name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    draft_files: dict[str, str] | None = None
    template: str = ""
    system: str = ""
    license: Any = None
    parameters: dict[str, Any] = {}
    messages: list[MessageBody] = []
    quantize: str = ""
    quantization: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: dict[str, Any] = {}
    remote_host: str = ""
    modelfile: str = ""
    path: str = ""

    def to_request(self) -> CreateRequest:
        """Return the internal request. Raises InvalidCreate and what read_modelfile raises."""
        self._check_unused()
        given = self._given()
        if self.source or self.files is not None or self.adapters is not None:
            return given
        if self.modelfile:
            return given.over(read_modelfile(self.modelfile))
        if self.path:
            raise InvalidCreate(
                "path names a file of the server, which is not read: send the text in modelfile"
            )
        return given

    def _given(self) -> CreateRequest:
        messages = tuple((message.role.lower(), message.content) for message in self.messages)
        return CreateRequest(
            name=self.model or self.name,
            base_name=self.source,
            files=_digests(self.files),
            adapters=_digests(self.adapters),
            template=self.template,
            system=self.system,
            parameters=self.parameters,
            license=_licenses(self.license),
            messages=messages or None,
            quantize=self.quantize or self.quantization,
            renderer=self.renderer,
            parser=self.parser,
            requires=self.requires,
        )

    def _check_unused(self) -> None:
        """Refuse what this site cannot do, and wrong types in what changes nothing."""
        if self.remote_host:
            raise CloudDisabled
        if self.draft_files:
            raise InvalidCreate("draft models are not supported")
        for name, value in self.info.items():
            if value is not None and name in _INFO:
                is_right, what = _INFO[name]
                if not is_right(value):
                    raise InvalidCreate(f"info: {name} must be {what}")


class CreateView(CallView):
    """`POST /api/create`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Create a model, telling how far it is."""
        body = await read_body(
            request, CreateBody, "CreateRequest", empty_message=NATIVE_EMPTY_BODY
        )
        job = await progress_stream.start(partial(_ask, request.user, body))
        return await progress_stream.respond(
            request.user, job, is_starter=True, is_streamed=body.stream
        )


def _ask(principal: Principal, body: CreateBody) -> JobRecord:
    return ask_create(principal, body.to_request())


def _digests(files: dict[str, str] | None) -> dict[str, Digest] | None:
    if files is None:
        return None
    return {path: Digest.parse(text) for path, text in files.items()}


def _licenses(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not _is_list_of_texts(texts):
        raise InvalidCreate("license must be a string or an array of strings")
    return tuple(text for text in texts if text)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TEXT: Final = (lambda value: isinstance(value, str), "a string")
_NUMBER: Final = (lambda value: type(value) in {int, float}, "a number")
# What `info` may hold, with the test of each value.
_INFO: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    **dict.fromkeys(("model_family", "base_name", "quantization_level", "parameter_size"), _TEXT),
    **dict.fromkeys(("context_length", "embedding_length"), _NUMBER),
    "capabilities": (_is_list_of_texts, "an array of strings"),
}
