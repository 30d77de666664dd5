"""Where a node is and how to get there: its socket on this machine, or TLS to another one.

A node's certificate is its own; it is known by its fingerprint, which it told when it joined, and
by nothing else. Who dials proves itself by a secret in Hello. No address that a node tells leads to
link-local ones or to where clouds keep secrets. Knows no message but that.
"""

import asyncio
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ollamasite.errors import OutboundFailed, OutboundRefused
from ollamasite.outbound.addresses import find_addresses, resolve_host

# Frames of many tokens for many requests come at once.
_BUFFER_BYTES: Final = 1024 * 1024
_MOST_ADDRESSES: Final = 3  # of a host are tried

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node that has joined as `name`. `fingerprint`: SHA-256 of its certificate, 64 hex."""

    name: str
    host: str
    port: int
    fingerprint: str
    secret: str = field(repr=False)


Where = Path | RemoteNode


def secret_for(where: Where) -> str:
    """Return what proves to a node who dials; its own machine's socket needs no proof."""
    return where.secret if isinstance(where, RemoteNode) else ""


def is_called(where: Where, name: str) -> bool:
    """Whether a node may say that this is its name: another machine joined by one."""
    return isinstance(where, Path) or where.name == name


async def dial(where: Where) -> Streams:
    """Connect. Raises OSError, also where another machine answers than the one that joined."""
    if isinstance(where, Path):
        return await asyncio.open_unix_connection(where)
    reader, writer = await _connected(where)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    found = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(found, where.fingerprint):
        writer.transport.abort()
        raise ConnectionRefusedError("another machine answers at the node's address")
    return reader, writer


async def _connected(where: RemoteNode) -> Streams:
    """Connect to the addresses that were checked, in turn. Raises OSError."""
    try:
        found = await find_addresses(resolve_host, where.host, where.port, may_be_inside=True)
    except (OutboundFailed, OutboundRefused) as error:
        raise ConnectionRefusedError(error.message) from error
    problem = OSError()
    for address in found[:_MOST_ADDRESSES]:
        try:
            return await asyncio.open_connection(
                address,
                where.port,
                ssl=_context(),
                server_hostname=where.host,
                limit=_BUFFER_BYTES,
            )
        except OSError as error:
            problem = error
    raise problem


def _context() -> ssl.SSLContext:
    # The fingerprint says more than a chain and a name could.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
