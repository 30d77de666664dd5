"""The request header `X-Priority`: the class in which a request waits.

Knows no route and no engine.
"""

from typing import Any, Final

from inference.messages import Priority
from models_app.permissions import CredentialKind, Principal
from ollamasite.errors import BadRequest

HEADER: Final = "X-Priority"


def asked_priority(request: Any) -> Priority | None:
    """Return the class that a DRF request asks for, or None where it leaves the choice.

    Raises BadRequest for a class that does not exist or is not for the caller.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return None
    allowed = _allowed(request.user)
    if text.strip().lower() not in allowed:
        raise BadRequest(f"{HEADER} must be one of: {', '.join(allowed)}")
    return allowed[text.strip().lower()]


def _allowed(principal: Principal) -> dict[str, Priority]:
    # Programs do not go before the people who wait in front of a page.
    is_person = principal.kind is CredentialKind.SESSION
    first = {"interactive": Priority.INTERACTIVE} if is_person else {}
    return {**first, "api": Priority.API, "batch": Priority.BATCH}
