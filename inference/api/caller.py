"""Who sends a request and how it wants to be served: its class and its idempotency key.

`X-Priority` names the class in which a request waits; `Idempotency-Key`, which the OpenAI SDKs send
with every try of one call, tells a repetition from a new request. Knows no route and no engine.
"""

from typing import Any, Final

from inference.messages import Priority
from inference.requests import Caller
from models_app.permissions import CredentialKind, Principal
from ollamasite.error_responses import dialect_of
from ollamasite.errors import BadRequest

PRIORITY_HEADER: Final = "X-Priority"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
MAX_IDEMPOTENCY_KEY: Final = 255


def caller_of(request: Any) -> Caller:
    """Return who sends a DRF request.

    Raises BadRequest for a class that does not exist or is not for the caller, and for a key that
    is too long.
    """
    key = request.headers.get(IDEMPOTENCY_HEADER, "")
    if len(key) > MAX_IDEMPOTENCY_KEY:
        raise BadRequest(f"{IDEMPOTENCY_HEADER} must have at most {MAX_IDEMPOTENCY_KEY} characters")
    priority = _asked_priority(request.user, request.headers.get(PRIORITY_HEADER))
    return Caller(
        principal=request.user,
        priority=priority,
        idempotency_key=key,
        dialect=dialect_of(request.path),
    )


def _asked_priority(principal: Principal, text: str | None) -> Priority:
    # Programs do not go before the people who wait in front of a page.
    is_person = principal.kind is CredentialKind.SESSION
    if text is None:
        return Priority.INTERACTIVE if is_person else Priority.API
    first = {"interactive": Priority.INTERACTIVE} if is_person else {}
    allowed = {**first, "api": Priority.API, "batch": Priority.BATCH}
    if text.strip().lower() not in allowed:
        raise BadRequest(f"{PRIORITY_HEADER} must be one of: {', '.join(allowed)}")
    return allowed[text.strip().lower()]
