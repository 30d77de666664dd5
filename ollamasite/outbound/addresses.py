"""Names → addresses that a request may go to; what is inside is refused.

Networks by the IANA special-purpose registries (RFC 6890 and its successors). The answer is used
for the connection itself, so that a second look-up cannot bring another one. Opens no connection.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from ollamasite.errors import OutboundFailed, OutboundRefused

Address = IPv4Address | IPv6Address
# Host and port → the addresses, as text, in the order to try them. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# What a site may be allowed to reach by naming a host.
_INSIDE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10"),
        *("::1/128", "fc00::/7"),
    )
)
# Not public though `is_global` has it so, in this version of Python or in general.
_NEVER_PUBLIC: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24"),  # protocol assignments, 6to4 relays
        *("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96"),  # IPv4 in IPv6: compatible, mapped, SIIT
        *("2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),  # Teredo and others, 6to4, …
        *("64:ff9b:1::/48", "fec0::/10"),  # NAT64 of one network, site-local
    )
)
# Where clouds tell their machines secrets; the other one of these is link-local.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")
)
# A look-up cannot be ended, and one that somebody else answers can be made to last: it must not
# take the threads on which everybody's bodies are read.
_askers: Final = ThreadPoolExecutor(8, thread_name_prefix="resolve")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet and to nothing nearer."""
    if address in _METADATA or not address.is_global or address.is_multicast:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return not _is_in(address, _NEVER_PUBLIC)


def is_inside(address: Address) -> bool:
    """Whether an address is one that a site may reach where its host is named for that."""
    return address not in _METADATA and _is_in(address, _INSIDE)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Ask the machine's resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    asking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await loop.run_in_executor(_askers, asking)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def find_addresses(
    resolve: Resolve, host: str, port: int, *, may_be_inside: bool
) -> list[str]:
    """Return a host's addresses, all of which may be connected to.

    One that may not spoils the answer: it is there by mistake or to be found by chance. Raises
    OutboundRefused, and OutboundFailed where the name has no address.
    """
    try:
        found = [ipaddress.ip_address(text) for text in await resolve(host, port)]
    except (OSError, ValueError) as error:  # an IPv6 address with a zone is link-local
        raise OutboundFailed(f"the host '{host}' was not found") from error
    if not found:
        raise OutboundFailed(f"the host '{host}' was not found")
    for address in found:
        if not is_public(address) and not (may_be_inside and is_inside(address)):
            what = "to which nothing is ever sent" if may_be_inside else "that is not public"
            raise OutboundRefused(f"the host '{host}' has an address {what}")
    return [str(address) for address in found]


def _is_in(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
