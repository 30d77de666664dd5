"""What callers ask to have done → the job that does it, or the one that does it already.

Refuses what can be refused at once, and decides which requests are the same. Knows no HTTP.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from django.conf import settings

from models_app.jobs import JobKind, JobRecord
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal, may_write_library
from ollamasite.errors import BadRequest, Forbidden
from registry import create_request, library, sealing
from registry.create_request import CreateRequest
from registry.errors import InvalidCreate, ModelRequired
from registry.garbage import GarbageArguments
from registry.jobs.submit import submit
from registry.pull import PullArguments
from registry.push import PushArguments
from registry.remote.reference import RemoteModel, scheme_of
from registry.verification import VerifyArguments

# Some registries' passwords are documents of a few thousand; all are kept with the job for days.
_MAX_TEXT_CHARS: Final = 16 * 1024


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """What to pull or push, as the caller said it. The password is never stored as it is."""

    name: str
    is_insecure: bool = False
    username: str = ""
    password: str = ""
    is_detached: bool = False


def ask_pull(principal: Principal, wanted: Transfer) -> JobRecord:
    """Have a model fetched from another registry.

    Raises InvalidModelName, NotYourModel, RegistryNotAllowed, TooManyJobs.
    """
    target, remote = places_of_pull(principal, wanted)
    # Others do not wait for a model that only one has in the end.
    is_common = target.namespace == LIBRARY and may_write_library(principal)
    return submit(
        principal,
        JobKind.PULL,
        PullArguments(**_arguments(wanted)),
        model_name=target.short,
        share=_share(
            "" if is_common else str(principal.user_id),
            target.full.lower(),
            str(remote.origin),
            remote.path.lower(),
            remote.tag,
            *_credentials(wanted),
        ),
        is_detached=wanted.is_detached,
    )


def places_of_pull(principal: Principal, wanted: Transfer) -> tuple[ModelName, RemoteModel]:
    """Return under which name a model would be stored here, and from where it would come.

    Raises InvalidModelName, NotYourModel, RegistryNotAllowed.
    """
    name = ModelName.parse(wanted.name)
    target = library.pull_target(principal, name)
    remote = RemoteModel.parse(
        name, scheme_in_text=scheme_of(wanted.name), is_insecure=wanted.is_insecure
    )
    return target, remote


def ask_push(principal: Principal, wanted: Transfer) -> JobRecord:
    """Have a model sent to another registry. Raises ModelRequired, TooManyJobs.

    Everything else is told by the job itself, as in Ollama.
    """
    if not wanted.name:
        raise ModelRequired
    return submit(
        principal,
        JobKind.PUSH,
        PushArguments(**_arguments(wanted)),
        model_name=_shown(wanted.name),
        share=_share(
            str(principal.user_id),
            wanted.name.strip().lower(),
            str(wanted.is_insecure),
            *_credentials(wanted),
        ),
        is_detached=wanted.is_detached,
    )


def ask_create(
    principal: Principal, request: CreateRequest, *, is_detached: bool = False
) -> JobRecord:
    """Have a model created. Raises InvalidModelName, NotYourModel, BlobNotFound, TooManyJobs.

    Shared with nobody: what a base or a name stands for may have changed since another began.
    """
    create_request.check(principal, request)
    target = library.write_target(principal, ModelName.parse(request.name))
    kind = JobKind.QUANTIZE if request.quantize else JobKind.CREATE
    return submit(principal, kind, request, model_name=target.short, is_detached=is_detached)


def ask_quantize(principal: Principal, *, source: str, target: str, quantize: str) -> JobRecord:
    """Have a smaller copy of a model made, whoever watches.

    Raises InvalidCreate, and what `ask_create` raises.
    """
    if not source or not quantize:
        raise InvalidCreate('"from" and "quantize" are required')
    wanted = CreateRequest(name=target, base_name=source, quantize=quantize)
    return ask_create(principal, wanted, is_detached=True)


def ask_verify(principal: Principal) -> JobRecord:
    """Have every stored file hashed again. Raises Forbidden for all but those who run the site."""
    _require_operator(principal)
    return submit(
        principal,
        JobKind.VERIFY,
        VerifyArguments(),
        model_name="",
        share="verify",
        is_detached=True,
    )


def ask_collect(principal: Principal) -> JobRecord:
    """Have what nobody needs removed. Raises Forbidden for all but those who run the site."""
    _require_operator(principal)
    return submit(
        principal,
        JobKind.COLLECT_GARBAGE,
        GarbageArguments(),
        model_name="",
        share="gc",
        is_detached=True,
    )


def _require_operator(principal: Principal) -> None:
    if not principal.may_operate:
        raise Forbidden


def _arguments(wanted: Transfer) -> dict[str, Any]:
    """Return what pull and push are told. Raises BadRequest."""
    if max(map(len, (wanted.name, wanted.username, wanted.password))) > _MAX_TEXT_CHARS:
        raise BadRequest(f"a name or password may have {_MAX_TEXT_CHARS} characters at most")
    return {
        "name": wanted.name,
        "is_insecure": wanted.is_insecure,
        "username": wanted.username,
        "sealed_password": sealing.seal(wanted.password) if wanted.password else "",
    }


def _credentials(wanted: Transfer) -> Iterable[str]:
    pepper = settings.KEY_PEPPER.encode()
    yield wanted.username
    yield hmac.new(pepper, wanted.password.encode(), hashlib.sha256).hexdigest()


def _share(*parts: str) -> str:
    """Return the parts as one text that no other parts make."""
    return msgspec.json.encode(parts).decode()


def _shown(name: str) -> str:
    """Return a name that is perhaps none as a list of jobs can show it."""
    return "".join(letter for letter in name.strip() if letter.isprintable())[:700]
