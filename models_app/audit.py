"""The audit: one row for every administrative act and every sign-in, each chained to the last.

A row's digest is the HMAC-SHA256 of its canonical JSON, which has the digest of the row before in
it: a row that was changed, removed or put between others breaks the chain from there on. Whoever
can write to the database and has not the site's pepper (OLLAMASITE_KEY_PEPPER) makes no other
chain that holds. Rows that were cut off at the end are noticed by whoever has kept a later digest.
Knows no HTTP and decides nothing: those who act record it, in an `act`, their transaction:

    @audit.act()
    def revoke_key(key: ApiKey) -> None:
        …
        audit.record("key.revoke", …)

The rows have one order, so whoever has written one has all others wait until its transaction is
over. It must wait for nobody any longer: an act writes its rows last.
"""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from models_app.models import AuditEntry
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.client_address import current_address

JsonValue: TypeAlias = "str | int | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

# Somebody else can be quicker each time; each time one of them is done.
_TRIES: Final = 200
_MAX_ACTION: Final = 60
_MAX_ACTOR: Final = 150
_MAX_CREDENTIAL: Final = 60
_MAX_SUBJECT: Final = 700
_MAX_DETAIL: Final = 500
# What is there instead of a credential when nobody has asked over the network.
SITE_ITSELF: Final = "command or task"


# What has been recorded of the act that is under way; None: none is.
_gathered: ContextVar[list[AuditEntry] | None] = ContextVar("gathered", default=None)


@contextmanager
def act() -> Iterator[None]:
    """Do something in one transaction; what is recorded of it is written at its end.

    Also a decorator, in place of `transaction.atomic`. An act within another is a part of it, and
    is forgotten where it fails. Raises RuntimeError within a transaction that is no act.
    """
    gathered = _gathered.get()
    if gathered is not None:
        with _part_of(gathered):
            yield
        return
    rows: list[AuditEntry] = []
    with transaction.atomic(durable=True):  # refused? make the transaction around it an act
        token = _gathered.set(rows)
        try:
            yield
        finally:
            _gathered.reset(token)
        _write(rows)


@contextmanager
def _part_of(gathered: list[AuditEntry]) -> Iterator[None]:
    before = len(gathered)
    try:
        with transaction.atomic():
            yield
    except BaseException:
        del gathered[before:]
        raise


def record(action: str, subject: str = "", *, by: Principal | None, **details: JsonValue) -> None:
    """Record what is done, such as `key.revoke`, with the act that is under way, else at once.

    `subject` names what it was done to; `details` say what has changed: never secrets, prompts or
    answers. `by` None: the site itself or its operator at the command line; in a request, somebody
    who is not known. Raises RuntimeError in a transaction that is no act.
    """
    address = _canonical_address(current_address())
    row = AuditEntry(
        actor_id=by.user_id if by else 0,
        actor_name=_text(by.username if by else "", _MAX_ACTOR),
        credential=_credential(by, is_request=address is not None),
        address=address,
        action=_text(action, _MAX_ACTION),
        subject=_text(subject, _MAX_SUBJECT),
        details={name: _clean(value) for name, value in details.items()},
    )
    gathered = _gathered.get()
    if gathered is not None:
        gathered.append(row)
        return
    with transaction.atomic(durable=True):  # refused? make the transaction around it an act
        _write([row])


def record_model_act(
    action: str, name: ModelName, *, by: Principal | None, **details: JsonValue
) -> None:
    """Record what was done to a model, such as `model.delete`, where others have to do with it.

    What somebody does to the models of their own namespace is nobody's business.
    """
    namespace = (name.namespace or LIBRARY).lower()
    is_own = by is not None and namespace == by.namespace.lower()
    is_own_mirror = by is not None and name.host != DEFAULT_HOST and not by.is_operator
    if not (is_own and name.host == DEFAULT_HOST) and not is_own_mirror:
        record(action, name.short, by=by, **details)


def digest_of(row: AuditEntry) -> str:
    """Return the digest that belongs to what a row holds, 64 hex."""
    moment = row.at.astimezone(UTC)
    told = {
        "sequence": row.sequence,
        "at": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "actor_id": row.actor_id,
        "actor_name": row.actor_name,
        "credential": row.credential,
        "address": _canonical_address(row.address),
        "action": row.action,
        "subject": row.subject,
        "details": row.details,
        "previous": row.previous,
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.digest(settings.KEY_PEPPER.encode(), text.encode(), hashlib.sha256).hex()


def _write(rows: Sequence[AuditEntry]) -> None:
    """Write rows behind the last one, as the last that their transaction does."""
    if rows and connection.vendor == "postgresql":
        # A foreign key is looked at when the transaction ends, and that may wait for whoever holds
        # the row it names. So that they do not wait for this one, it is looked at now.
        connection.check_constraints()
    for row in rows:
        row.at = timezone.now()
        for _ in range(_TRIES - 1):
            if _append(row):
                break
        else:
            _append(row, is_last_try=True)


def _append(row: AuditEntry, *, is_last_try: bool = False) -> bool:
    """Write a row behind the last one; return whether nobody else was quicker."""
    last = AuditEntry.objects.order_by("-sequence").values_list("sequence", "digest").first()
    sequence, row.previous = last or (0, "")
    row.sequence = sequence + 1
    row.digest = digest_of(row)
    try:
        # A savepoint: the caller's transaction goes on. Where another writes the same number, this
        # waits until it is known whether that one stays.
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        row.pk = None
        if is_last_try:
            raise
        return False
    return True


def _credential(by: Principal | None, *, is_request: bool) -> str:
    if by is None:
        return "" if is_request else SITE_ITSELF
    text = f"{by.kind} {by.key_name}".strip()
    if len(text) > _MAX_CREDENTIAL:  # the key's prefix, at the end, is what tells keys apart
        text = f"{text[: _MAX_CREDENTIAL - 20]}…{text[-19:]}"
    return _text(text, _MAX_CREDENTIAL)


def _canonical_address(address: str | None) -> str | None:
    """Return an address as one engine and the other would both spell it."""
    if not address:
        return None
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
    return str(mapped or known)


def _text(text: str, limit: int) -> str:
    """Return a text as both engines store it: no NUL, no half of a surrogate pair, not too long."""
    whole = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def _clean(value: Any) -> Any:
    """Return details as both engines give them back: no fractions, whose digits they may change."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return _text(value, _MAX_DETAIL)
        case datetime():
            return value.isoformat()
        case Mapping():
            return {_text(str(name), _MAX_DETAIL): _clean(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
    return _text(str(value), _MAX_DETAIL)
