"""Several machines: which may join, what they said when they did, what is wanted of them.

    token = allow("gpu1", by=admin)          # shown once
    enrolled = join(principal, Announced(…))   # by the node itself, with that token

A token is good for the certificate that first joins with it: who has stolen one cannot put a
machine of their own in the node's place, and of two copies of one machine only the first gets in. A
new token begins anew, and until somebody has joined
with it the site has no such node.

Web processes dial a node at the address that it told, know it by its certificate's fingerprint and
present the secret that it got here. The secret is made from the site's key and the row's salt: it
is stored nowhere. Knows no HTTP and no socket.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from models_app import audit
from models_app.errors import NodeRefused
from models_app.models import Node, NodeState
from models_app.node_tokens import new_token
from models_app.permissions import Principal
from ollamasite.outbound.addresses import is_inside, is_public

logger = logging.getLogger(__name__)

# A node says every five seconds that it is there.
LOST_AFTER: Final = timedelta(seconds=30)
# One that has been silent for so long may be elsewhere now.
MOVES_AFTER: Final = timedelta(seconds=15)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_ADDRESS: Final = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]+)"
)
_MOST_ADDRESS: Final = 270
_MOST_PORT: Final = 65535
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_MOST_DEVICES: Final = 64
_MOST_DEVICE_NAME: Final = 120
_MOST_BYTES: Final = 2**62
# Names that stand for the site's own node in lists.
_TAKEN: Final = frozenset({"local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a node says of itself when it joins. `devices` are names and bytes."""

    address: str
    fingerprint: str
    memory_bytes: int | None = None
    devices: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A node that has joined, as web processes need to know it. `secret` proves who dials.

    `devices` are the names of its GPUs.
    """

    name: str
    host: str
    port: int
    fingerprint: str
    secret: str
    is_cordoned: bool
    is_draining: bool
    memory_bytes: int | None
    devices: tuple[str, ...]
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node as it is listed."""

    name: str
    state: NodeState
    address: str
    memory_bytes: int | None
    devices: Sequence[Mapping[str, Any]]
    joined_at: datetime | None
    last_seen_at: datetime | None

    @property
    def is_lost(self) -> bool:
        """Whether it has joined, and said nothing since a time in which it would have."""
        seen = self.last_seen_at
        return seen is not None and not _is_within(LOST_AFTER, seen)

    @property
    def heard(self) -> str:
        """When it was heard of last, for people."""
        if self.last_seen_at is None:
            return "never"
        moment = f"{timezone.localtime(self.last_seen_at):%Y-%m-%d %H:%M:%S}"
        return f"lost since {moment}" if self.is_lost else moment


def list_nodes() -> list[NodeRow]:
    """Return all nodes by name, those that have never joined too."""
    return [listed(node) for node in Node.objects.all()]


def listed(node: Node) -> NodeRow:
    """Return a node as it is listed."""
    return NodeRow(
        name=node.name,
        state=NodeState(node.state),
        address=node.address,
        memory_bytes=node.memory_bytes,
        devices=node.devices,
        joined_at=node.joined_at,
        last_seen_at=node.last_seen_at,
    )


def enrolled() -> list[Enrolled]:
    """Return the nodes that have joined. One query."""
    return [_enrolled(node) for node in Node.objects.exclude(address="")]


@audit.act()
def allow(name: str, *, by: Principal | None) -> str:
    """Let a node of this name join; return the token for it, which nobody can read again.

    Of a node that is there already the old token is good no longer, and whoever has joined with it
    belongs to the site no longer. Raises ValidationError.
    """
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise ValidationError(
            "A node's name has at most 40 of a-z, 0-9 and hyphens, and local is the site's own."
        )
    token, digest = new_token()
    nobody = {"address": "", "fingerprint": "", "secret_salt": ""}
    _node, is_new = Node.objects.update_or_create(
        name=name, defaults={"token_digest": digest, **nobody}
    )
    audit.record("node.allow" if is_new else "node.new-token", name, by=by)
    return token


def join(principal: Principal, told: Announced) -> Enrolled:
    """Note where a node is and what it has; return how the site knows it now.

    Again at each start of the node, and now and then while it runs. Raises NodeRefused.
    """
    _check(told)
    with audit.act():
        node = Node.objects.select_for_update().filter(name=principal.username).first()
        if node is None:  # removed a moment ago
            raise NodeRefused("this node may not join any longer")
        if node.fingerprint not in {"", told.fingerprint}:
            logger.warning("%s was told to join by another machine than before", node.name)
            raise NodeRefused(
                "another certificate has joined with this token; where that is no surprise, make "
                f"a new one at the site: ollamasite node-token {node.name}"
            )
        _require_one_place(node, told.address)
        is_moved = (node.address, node.fingerprint) != (told.address, told.fingerprint)
        if is_moved:
            node.secret_salt = secrets.token_hex(16)
            node.joined_at = timezone.now()
            audit.record("node.join", node.name, by=None, address=told.address)
        node.address, node.fingerprint = told.address, told.fingerprint
        node.memory_bytes = told.memory_bytes
        node.devices = [_device(device) for device in told.devices]
        node.last_seen_at = timezone.now()
        node.save()
    return _enrolled(node)


@audit.act()
def set_state(name: str, state: NodeState, *, by: Principal | None) -> bool:
    """Say what is wanted of a node. Return whether there is one of that name."""
    if not Node.objects.filter(name=name).update(state=state):
        return False
    audit.record(f"node.{state.value}", name, by=by)
    return True


@audit.act()
def remove(name: str, *, by: Principal | None) -> bool:
    """Have a node belong to the site no longer. Return whether there was one of that name."""
    deleted, _ = Node.objects.filter(name=name).delete()
    if deleted:
        audit.record("node.remove", name, by=by)
    return bool(deleted)


def _require_one_place(node: Node, address: str) -> None:
    """Raise NodeRefused where a node is heard from two addresses: a copied disk, a second start."""
    if node.address in {"", address} or not _is_within(MOVES_AFTER, node.last_seen_at):
        return
    raise NodeRefused(
        f"a node with this token and certificate is at {node.address} right now; another machine "
        "needs a token and a data directory of its own, and one that has moved is let in when "
        f"nothing has been heard from there for {MOVES_AFTER.seconds} seconds"
    )


def _is_within(time: timedelta, seen: datetime | None) -> bool:
    """Whether somebody was seen so lately. Not where the clock was set back since."""
    return seen is not None and abs(timezone.now() - seen) <= time


def _check(told: Announced) -> None:
    match = _ADDRESS.fullmatch(told.address)
    port = int(match[3]) if match and len(match[3]) <= len(str(_MOST_PORT)) else 0
    if not 0 < port <= _MOST_PORT or len(told.address) > _MOST_ADDRESS:
        raise NodeRefused("the address must be HOST:PORT as the site's web processes reach it")
    if not _may_be_dialled(told.address.rpartition(":")[0].strip("[]")):
        raise NodeRefused("the address must be one that the site's web processes may dial")
    if not _FINGERPRINT.fullmatch(told.fingerprint):
        raise NodeRefused("the fingerprint must be the SHA-256 of the certificate in hex")
    if not 0 <= (told.memory_bytes or 0) < _MOST_BYTES:
        raise NodeRefused("the memory must be a number of bytes")
    if len(told.devices) > _MOST_DEVICES:
        raise NodeRefused(f"a node has at most {_MOST_DEVICES} devices")


def _may_be_dialled(host: str) -> bool:
    """Whether a host is no address that leads elsewhere; a name is looked up when it is dialled."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ":" not in host
    return is_public(address) or is_inside(address)


def _device(told: Mapping[str, Any]) -> dict[str, Any]:
    total = told.get("total_bytes")
    is_size = isinstance(total, int) and 0 <= total < _MOST_BYTES
    # A database refuses some of the others.
    name = "".join(letter for letter in str(told.get("name", "")) if letter.isprintable())
    return {
        "name": name[:_MOST_DEVICE_NAME],
        "total_bytes": total if is_size else None,
    }


def _enrolled(node: Node) -> Enrolled:
    host, _, port = node.address.rpartition(":")
    return Enrolled(
        name=node.name,
        host=host.strip("[]"),
        port=int(port),
        fingerprint=node.fingerprint,
        secret=_secret_of(node),
        is_cordoned=node.state != NodeState.ACTIVE,
        is_draining=node.state == NodeState.DRAINING,
        memory_bytes=node.memory_bytes,
        devices=tuple(str(device.get("name", "")) for device in node.devices),
        last_seen_at=node.last_seen_at,
    )


def _secret_of(node: Node) -> str:
    text = f"node secret\n{node.name}\n{node.secret_salt}\n{node.fingerprint}"
    return hmac.digest(settings.SECRET_KEY.encode(), text.encode(), hashlib.sha256).hex()
