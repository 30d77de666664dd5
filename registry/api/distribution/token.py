"""`GET /v2/token`: who one is becomes a registry token (contract/registry.md 1.6, 2.4).

The gate has found out who asks, by any credential. Knows no repository and no row.
"""

from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app.registry_tokens import TOKEN_LIFE, issue_token
from ollamasite.api_views import ReadView
from ollamasite.http import json_response

_NEVER_KEPT: Final = {"Cache-Control": "no-store"}


class TokenReply(msgspec.Struct):
    """The answer: Docker's clients read either name of the token, Ollama's the first."""

    token: str
    access_token: str
    expires_in: int  # seconds
    issued_at: str


class TokenView(ReadView):
    """`GET /v2/token?service=…&scope=repository:<name>:pull,push`."""

    async def get(self, request: Any) -> HttpResponse:
        """Give a token for what is asked and allowed."""
        asked = request.query_params.getlist("scope")
        issued = await sync_to_async(issue_token)(request.user, asked)
        reply = TokenReply(
            token=issued.text,
            access_token=issued.text,
            expires_in=int(TOKEN_LIFE.total_seconds()),
            issued_at=issued.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        return json_response(reply, headers=_NEVER_KEPT)
