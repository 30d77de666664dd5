"""The HTTP client for other machines: guarded by host, address, size and time.

HTTP/1.1 (RFC 9110, 9112). Every hop of a redirect is checked like the first, and the connection
goes to the address that was checked. Takes nothing from the environment: no proxy, no .netrc, no
cookies. Knows no settings and no feature; failures are ServiceErrors of `ollamasite.errors`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Final, Protocol, Self

import httpcore2
import httpx2

from ollamasite.errors import OutboundFailed, OutboundRefused, OutboundTimedOut, OutboundTooLarge
from ollamasite.outbound.addresses import Resolve, find_addresses, resolve_host
from ollamasite.outbound.decoding import decoder_for
from ollamasite.outbound.hosts import AllowedHosts
from ollamasite.outbound.plain_stream import PlainStream
from ollamasite.outbound.urls import Target, parse_url

MAX_REDIRECTS: Final = 5
_MOST_ADDRESSES: Final = 3  # of a host are tried
_MOST_CONNECTIONS: Final = 32  # of one client
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# All that is sent to another origin than the one it was meant for.
_SENT_ANYWHERE: Final = frozenset({"accept", "accept-encoding", "range", "user-agent"})
_OK: Final = 200
# Of one read from a connection; the library's own 64 KiB cost half the speed of a large file.
httpcore2.AsyncHTTP11Connection.READ_NUM_BYTES = 256 * 1024

Content = bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much and how long. Seconds; `read_s` is a stall, `total_s` everything (None: no end)."""

    body_bytes: int = 1024 * 1024  # as received, and as decoded
    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float | None = 60.0


class Answer:
    """What a server answered: the head at once, the body by `chunks`, `read` or `fill`, once."""

    def __init__(self, target: Target, response: httpcore2.Response, caps: Caps) -> None:
        self.url = target.text  # where the answer came from, after redirects
        self.status = response.status
        self.headers: Mapping[str, str] = _joined(response.headers)  # names in lower case
        self._response = response
        self._caps = caps
        self._filling: _Filling | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the decoded body. Raises OutboundTooLarge, OutboundFailed, OutboundTimedOut."""
        decoder = decoder_for(self.headers.get("content-encoding", ""))
        announced = self.headers.get("content-length", "")
        self._check_size(int(announced) if announced.isdecimal() else 0)
        received_bytes = decoded_bytes = 0
        async for chunk in self._response.aiter_stream():
            received_bytes += len(chunk)
            self._check_size(received_bytes)
            for piece in decoder.decode(chunk):
                decoded_bytes += len(piece)
                self._check_size(decoded_bytes)
                yield piece
        if received_bytes:
            decoder.finish()

    async def read(self) -> bytes:
        """Return the whole body. Raises as `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def fill(self, buffer: memoryview) -> int:
        """Put the body's next bytes into a buffer; return how many, 0 at the end.

        For large bodies, which are not copied on their way where that can be. Raises as `chunks`.
        """
        if self._filling is None:
            self._filling = self._direct() or _FromChunks(self.chunks())
        return await self._filling.fill(buffer)

    def _direct(self) -> "_Filling | None":
        """Return how to read the body past the parser, where it is one plain piece."""
        stream = self._response.extensions.get("network_stream")
        length = self.headers.get("content-length", "")
        if not (isinstance(stream, PlainStream) and stream.is_at_body and length.isdecimal()):
            return None
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if "transfer-encoding" in self.headers or encoding != "identity":
            return None
        self._check_size(int(length))
        return _FromConnection(stream, int(length), self._caps.read_s)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._caps.body_bytes:
            raise OutboundTooLarge(f"the answer is larger than {self._caps.body_bytes} bytes")


class _Filling(Protocol):
    async def fill(self, buffer: memoryview) -> int: ...


class _FromConnection:
    """A body of a known length, read past the parser, which is then of no more use."""

    def __init__(self, stream: PlainStream, length: int, read_s: float) -> None:
        self._stream = stream
        self._left_bytes = length
        self._read_s = read_s

    async def fill(self, buffer: memoryview) -> int:
        if not self._left_bytes:
            return 0
        count = await self._stream.read_into(buffer[: self._left_bytes], self._read_s)
        if not count:
            raise OutboundFailed("the answer is cut short")
        self._left_bytes -= count
        return count


class _FromChunks:
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    async def fill(self, buffer: memoryview) -> int:
        while not self._left:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class OutboundClient:
    """Sends requests to the hosts of a list. An async context manager; keeps connections.

    `most_connections` at a time; None: as many as are wanted.
    `resolve` and `tls` are for tests and for sites with names or authorities of their own.
    """

    def __init__(
        self,
        hosts: AllowedHosts,
        caps: Caps | None = None,
        *,
        most_connections: int | None = _MOST_CONNECTIONS,
        resolve: Resolve = resolve_host,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = hosts
        self._caps = caps or Caps()
        self._resolve = resolve
        self._own_tls = tls
        self._most_connections = most_connections
        self._pools: dict[str, httpcore2.AsyncConnectionPool] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        caps: Caps | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Answer]:
        """Send a request and yield the answer, whatever its status; the body is still to be read.

        Redirects of GET and HEAD are followed unless `follow` is false; another method's answer is
        handed back as it is. `caps` are for this request alone.
        Raises OutboundRefused, OutboundFailed, OutboundTimedOut, also out of the body's reading.
        """
        target = parse_url(url)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        caps = caps or self._caps
        may_follow = follow and method in ("GET", "HEAD")
        async with _failures(caps.total_s):
            for _ in range(MAX_REDIRECTS + 1):
                async with self._send(method, target, sent, content, caps) as answer:
                    further = _redirect(answer, target) if may_follow else None
                    if further is None:
                        yield answer
                        return
                sent = _headers_for(further, sent, target)
                target = further
            raise OutboundFailed(f"more than {MAX_REDIRECTS} redirects")

    async def read(self, url: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """GET a URL and return its body. Raises OutboundFailed also for a status other than 200."""
        async with self.stream("GET", url, headers=headers) as answer:
            if answer.status != _OK:
                raise OutboundFailed(f"the answer has the status {answer.status}")
            return await answer.read()

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        content: Content | None,
        caps: Caps,
    ) -> AsyncIterator[Answer]:
        if not self._hosts.permit(*target.origin):
            raise OutboundRefused(f"requests to {target.scheme}://{target.authority} are not made")
        whole = {"user-agent": _user_agent(), "accept": "*/*", "accept-encoding": "identity"}
        whole |= headers
        whole["host"] = target.authority
        url = httpcore2.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        timeouts = {"connect": caps.connect_s, "read": caps.read_s, "write": caps.read_s}
        stream = self._pool(target.scheme).stream(
            method,
            url,
            headers=list(whole.items()),
            content=content,
            extensions={"timeout": timeouts},
        )
        try:
            async with stream as response:
                yield Answer(target, response, caps)
        except httpcore2.ConnectError as error:
            raise OutboundFailed(_unreached(target, error)) from error

    def _pool(self, scheme: str) -> httpcore2.AsyncConnectionPool:
        """Return the connections of a scheme; made when first wanted, as certificates take long."""
        if scheme not in self._pools:
            is_plain = scheme == "http"
            network = _CheckedPlainNetwork if is_plain else _CheckedNetwork
            self._pools[scheme] = httpcore2.AsyncConnectionPool(
                # One that trusts nobody: given none, the pool would read the certificates anew.
                ssl_context=_no_tls() if is_plain else self._own_tls or _tls(),
                max_connections=self._most_connections,
                network_backend=network(self._hosts, self._resolve),
            )
        return self._pools[scheme]


class _CheckedNetwork(httpcore2.AnyIOBackend):
    """Connects to addresses that were checked; TLS and the Host header go on using the name."""

    def __init__(self, hosts: AllowedHosts, resolve: Resolve) -> None:
        self._hosts = hosts
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look the host up once and connect to the first address that answers.

        Looking up and connecting may take `timeout` seconds each.
        """
        may_be_inside = self._hosts.permit_inside(host, port)
        looking = find_addresses(self._resolve, host, port, may_be_inside=may_be_inside)
        *others, last = (await _within(timeout, looking))[:_MOST_ADDRESSES]
        share = None if timeout is None else timeout / (len(others) + 1)
        for address in others:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._connect(address, port, share, socket_options)
        return await self._connect(last, port, share, socket_options)

    async def _connect(
        self,
        address: str,
        port: int,
        timeout_s: float | None,
        options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        return await super().connect_tcp(address, port, timeout_s, None, options)


class _CheckedPlainNetwork(_CheckedNetwork):
    """The same without TLS."""

    async def _connect(
        self,
        address: str,
        port: int,
        timeout_s: float | None,
        options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        return await PlainStream.connect(address, port, timeout_s, options)


async def _within(timeout_s: float | None, looking: Awaitable[list[str]]) -> list[str]:
    try:
        async with asyncio.timeout(timeout_s):
            return await looking
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout from error


@asynccontextmanager
async def _failures(total_s: float | None) -> AsyncIterator[None]:
    """Turn what goes wrong on the way into ServiceErrors, within a time."""
    timer = asyncio.timeout(total_s)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise  # the caller's own
        raise OutboundTimedOut from error
    except httpcore2.TimeoutException as error:
        raise OutboundTimedOut from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise OutboundFailed from error


def _unreached(target: Target, error: BaseException) -> str:
    """Say to whom there is no connection, and where TLS is in the way, why."""
    sentence = f"no connection to {target.scheme}://{target.authority}"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{sentence}: its certificate is not accepted ({cause.verify_message})"
    return f"{sentence}: it does not speak TLS" if isinstance(cause, ssl.SSLError) else sentence


def _redirect(answer: Answer, target: Target) -> Target | None:
    """Return where an answer leads, or None. Raises OutboundRefused for a way out of https."""
    location = answer.headers.get("location")
    if answer.status not in _REDIRECTS or location is None:
        return None
    further = target.join(location)
    if target.scheme == "https" and further.scheme != "https":
        raise OutboundRefused("a redirect from https to http is not followed")
    return further


def _headers_for(further: Target, headers: Mapping[str, str], target: Target) -> dict[str, str]:
    """Return what may be sent on: all to the same origin, no credential to another."""
    if further.origin == target.origin:
        return dict(headers)
    return {name: value for name, value in headers.items() if name in _SENT_ANYWHERE}


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


@lru_cache(1)
def _user_agent() -> str:
    return f"ollamasite/{version('ollamasite')}"


@lru_cache(1)
def _no_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    # Made once: reading the certificates takes longer than many a request.
    return httpx2.create_ssl_context(trust_env=False)
