"""`POST /api/pull` and `POST /api/push` in Ollama's own dialect (contract/ollama.md 1.9, 2.3).

Knows no registry and no row of the database.
"""

from functools import partial
from typing import Any

import msgspec
from django.http.response import HttpResponseBase

from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from registry.api import progress_stream
from registry.jobs.asking import Transfer, ask_pull, ask_push


class TransferBody(msgspec.Struct):
    """The body of both. `detached` is our own: the job goes on when its client leaves."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool = True
    username: str = ""
    password: str = ""
    detached: bool = False

    def to_transfer(self) -> Transfer:
        """Return what is asked for."""
        return Transfer(
            name=self.model or self.name,
            is_insecure=self.insecure,
            username=self.username,
            password=self.password,
            is_detached=self.detached,
        )


class PullView(CallView):
    """`POST /api/pull`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Fetch a model from another registry, telling how far it is."""
        body = await read_body(
            request, TransferBody, "PullRequest", empty_message=NATIVE_EMPTY_BODY
        )
        job = await progress_stream.start(partial(ask_pull, request.user, body.to_transfer()))
        return await progress_stream.respond(
            request.user, job, is_starter=True, is_streamed=body.stream
        )


class PushView(CallView):
    """`POST /api/push`."""

    async def post(self, request: Any) -> HttpResponseBase:
        """Send a model to another registry, telling how far it is."""
        body = await read_body(
            request, TransferBody, "PushRequest", empty_message=NATIVE_EMPTY_BODY
        )
        job = await progress_stream.start(partial(ask_push, request.user, body.to_transfer()))
        return await progress_stream.respond(
            request.user, job, is_starter=True, is_streamed=body.stream
        )
