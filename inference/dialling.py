"""Where a node is and how to get there: its socket on this machine, or TLS to another one.

A node's certificate is its own; it is known by its fingerprint, which it told when it joined, and
by nothing else. Who dials proves itself by a secret in Hello. Knows no message but that.
"""

import asyncio
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path

# Frames of many tokens for many requests come at once.
_BUFFER_BYTES = 1024 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node that has joined. `fingerprint`: SHA-256 of its certificate, 64 hex."""

    host: str
    port: int
    fingerprint: str
    secret: str = field(repr=False)


Where = Path | RemoteNode


def secret_for(where: Where) -> str:
    """Return what proves to a node who dials; its own machine's socket needs no proof."""
    return where.secret if isinstance(where, RemoteNode) else ""


async def dial(where: Where) -> Streams:
    """Connect. Raises OSError, also where another machine answers than the one that joined."""
    if isinstance(where, Path):
        return await asyncio.open_unix_connection(where)
    reader, writer = await asyncio.open_connection(
        where.host, where.port, ssl=_context(), limit=_BUFFER_BYTES
    )
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    found = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(found, where.fingerprint):
        writer.transport.abort()
        raise ConnectionRefusedError("another machine answers at the node's address")
    return reader, writer


def _context() -> ssl.SSLContext:
    # The fingerprint says more than a chain and a name could.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
