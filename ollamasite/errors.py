"""The errors this service answers with: a code, an HTTP status, a sentence, headers.

    ServiceError
    ├── BadRequest            400 bad_request
    │   └── InvalidBody       400 invalid_body        (JSON or a field's type)
    ├── Unauthenticated       401 unauthenticated
    ├── Forbidden             403 forbidden
    ├── NotFound              404 not_found
    ├── MethodNotAllowed      405 method_not_allowed
    ├── Conflict              409 conflict            (what is there stands in the way)
    ├── BodyTooLarge          413 body_too_large
    ├── DatabaseUnavailable   503 database_unavailable
    ├── OutboundFailed        502 outbound_failed     (a request of ours to another machine)
    │   ├── OutboundRefused   403 outbound_refused
    │   ├── OutboundTimedOut  504 outbound_timed_out
    │   └── OutboundTooLarge  502 outbound_too_large
    ├── models_app.errors     names, access, limits
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

    def __init__(
        self, message: str = "", *, headers: Mapping[str, str] | None = None, param: str = ""
    ) -> None:
        """`param` is the name of the request's field that is wrong, where it is one.

        `detail` is what the registry's dialect tells besides the message: JSON or None.
        """
        self.message = message or self.default_message
        self.headers = dict(headers or {})
        self.param = param
        self.detail: object = None
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


class Conflict(ServiceError):
    """The request is right, and what is there now stands in its way: the sentence says what."""

    code = "conflict"
    status = 409
    default_message = "this cannot be done as things are"


class BodyTooLarge(ServiceError):
    """The request body is over the site's limit."""

    code = "body_too_large"
    status = 413
    default_message = "request body too large"


class DatabaseUnavailable(ServiceError):
    """The database does not answer, or cannot write."""

    code = "database_unavailable"
    status = 503
    default_message = "the database does not answer at the moment, please try again"


class OutboundFailed(ServiceError):
    """Another machine that this site asked could not be reached or made no sense."""

    code = "outbound_failed"
    status = 502
    default_message = "another server could not be reached or did not answer as it should"


class OutboundRefused(OutboundFailed):
    """This site does not send requests there: the URL, its host, or where the name leads."""

    code = "outbound_refused"
    status = 403
    default_message = "this site does not send requests there"


class OutboundTimedOut(OutboundFailed):
    """Another machine took too long."""

    code = "outbound_timed_out"
    status = 504
    default_message = "another server did not answer in time"


class OutboundTooLarge(OutboundFailed):
    """Another machine's answer is larger than what was asked for may be."""

    code = "outbound_too_large"
    default_message = "another server's answer is too large"
