"""What goes wrong with an engine elsewhere, in words for the client.

Knows no HTTP and no request.
"""

import re
from typing import Any, Final

import msgspec

from inference.messages import FailureCode, UpstreamRef

_MOST_CHARACTERS: Final = 300
_LEAST_KEY_CHARACTERS: Final = 4  # a shorter one is no secret, and may be part of any word
_TOO_LONG: Final = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context length|context (?:size|window)"
    r"|longer than the model'?s context"
)


class UpstreamError(Exception):
    """A request that failed; `code` and `message` are those of its Failed."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refused(message: str) -> UpstreamError:
    """Return the failure of a request that an engine elsewhere cannot be asked for."""
    return UpstreamError(FailureCode.BAD_REQUEST, message)


def failed(upstream: UpstreamRef, what: str) -> UpstreamError:
    """Return the failure of an engine: `what` says it of the engine."""
    words = f"the engine '{upstream.name}' that serves this model {what}"
    return UpstreamError(FailureCode.UPSTREAM_FAILED, words)


def unreachable(upstream: UpstreamRef, what: str) -> UpstreamError:
    """Return the failure of an engine that takes no requests now."""
    words = f"the engine '{upstream.name}' that serves this model {what}, please try again later"
    return UpstreamError(FailureCode.UPSTREAM_UNREACHABLE, words)


def of_status(upstream: UpstreamRef, status: int, body: bytes) -> UpstreamError:
    """Return what an answer with this status means."""
    said = sentence(upstream, body)
    behind = f": {said}" if said else ""
    if status in {401, 403}:
        return failed(upstream, "refuses the key that this site has for it")
    if status == 404:  # noqa: PLR2004 - Not Found
        return failed(upstream, f"does not know it{behind}")
    if status in {429, 503}:
        return unreachable(upstream, f"takes no more requests now{behind}")
    if 300 <= status < 400:  # noqa: PLR2004 - redirects
        return failed(upstream, "answers with a redirect, which is not followed")
    if 400 <= status < 500 or status == 501:  # noqa: PLR2004 - the request's fault; Not Implemented
        return _bad_request(said or f"the engine '{upstream.name}' refuses the request ({status})")
    return failed(upstream, f"failed with the status {status}{behind}")


def of_error(upstream: UpstreamRef, error: Any) -> UpstreamError:
    """Return what an error amid a stream means."""
    said = sentence(upstream, msgspec.json.encode(error))
    if _TOO_LONG.search(said):
        return UpstreamError(FailureCode.PROMPT_TOO_LONG, said)
    return failed(upstream, f"failed: {said}" if said else "failed")


def sentence(upstream: UpstreamRef, body: bytes) -> str:
    """Return what an error's body says, in one short line without the site's key."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
    said = _message_of(decoded)
    if len(upstream.key) >= _LEAST_KEY_CHARACTERS:
        said = said.replace(upstream.key, "…")
    line = " ".join("".join(c if c.isprintable() else " " for c in said[: 4 * 1024]).split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"


def _bad_request(said: str) -> UpstreamError:
    is_too_long = _TOO_LONG.search(said)
    code = FailureCode.PROMPT_TOO_LONG if is_too_long else FailureCode.BAD_REQUEST
    return UpstreamError(code, said)


def _message_of(value: Any) -> str:
    # {"error": {"message": …}}, {"error": "…"}, {"message": …} and {"detail": …} are all in use.
    for _ in range(3):
        if isinstance(value, str):
            return value
        if not isinstance(value, dict):
            return ""
        value = value.get("error") or value.get("message") or value.get("detail")
    return value if isinstance(value, str) else ""
