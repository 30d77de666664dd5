"""The errors this service answers with: a code, an HTTP status, a sentence, headers.

    ServiceError
    ├── BadRequest            400 bad_request
    │   └── InvalidBody       400 invalid_body        (JSON or a field's type)
    ├── Unauthenticated       401 unauthenticated
    ├── Forbidden             403 forbidden
    ├── NotFound              404 not_found
    ├── MethodNotAllowed      405 method_not_allowed
    ├── BodyTooLarge          413 body_too_large
    ├── models_app.errors     names, access
    ├── registry.errors       store, manifests, GGUF files
    └── inference.errors      engine: busy, crashed, cancelled, too long

Bottom of the import graph: knows no Django, no dialect and no wire shape. What a body looks like
is decided in `ollamasite.error_responses` alone.
"""

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """A failure that a client can be told about in words."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    default_message: ClassVar[str] = "internal server error"

    def __init__(self, message: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        self.message = message or self.default_message
        self.headers = dict(headers or {})
        super().__init__(self.message)


class BadRequest(ServiceError):
    """The request makes no sense as it is."""

    code = "bad_request"
    status = 400
    default_message = "bad request"


class InvalidBody(BadRequest):
    """The body is not the JSON that the route expects."""

    code = "invalid_body"
    default_message = "invalid request body"


class Unauthenticated(ServiceError):
    """No credential, or one that does not hold (any longer)."""

    code = "unauthenticated"
    status = 401
    default_message = "unauthorized"


class Forbidden(ServiceError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403
    default_message = "forbidden"


class NotFound(ServiceError):
    """No such route or thing."""

    code = "not_found"
    status = 404
    default_message = "404 page not found"


class MethodNotAllowed(ServiceError):
    """The route exists, not for this method."""

    code = "method_not_allowed"
    status = 405
    default_message = "405 method not allowed"


class BodyTooLarge(ServiceError):
    """The request body is over the site's limit."""

    code = "body_too_large"
    status = 413
    default_message = "request body too large"
