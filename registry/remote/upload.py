"""One file → another registry: in pieces, and on from where a cut has left it.

contract/registry.md 1.5, 2.3 and section 3 (what docker-registry does), 4 "Upload". The session's
URL is always the newest that the registry has told, on whatever origin; credentials go to its own
alone. After a failure the registry says how much it has, and where it cannot, the file begins
anew. Memory stays flat whatever the size. Knows no model and no job.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from ollamasite.errors import OutboundFailed, OutboundRefused, OutboundTooLarge, ServiceError
from ollamasite.outbound.client import Answer, Caps, Content
from registry.digest import Digest
from registry.errors import RegistryFailed
from registry.remote.client import RegistryClient, Reply, Unsteady, refusal, require_steady
from registry.remote.session_note import Note, locked_note

# How many bytes of a file have been handed to the connection. Called from the event loop.
Sent = Callable[[int], None]

# A file up to this size goes in one request, a larger one in parts of PART_BYTES.
SMALL_BYTES: Final = 4 * 1024 * 1024
PART_BYTES: Final = 128 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_REDIRECTS: Final = 5
# What another registry hashes at least, when it looks at the whole file before it answers.
_HASHED_BYTES_PER_S: Final = 50_000_000
_CLEAN_UP_S: Final = 5.0
_OCTETS: Final = "application/octet-stream"
# Ours say exactly how much they have: the Range of an upload cannot tell 0 bytes from 1.
_EXACT: Final = "x-upload-bytes"
_RANGE: Final = re.compile(r"(?:bytes[= ])?0-([0-9]{1,19})")
_KEPT_METHOD: Final = frozenset({307, 308})
_CREATED: Final = 201
_NO_CONTENT: Final = 204
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
# The session is gone, somebody else (perhaps we ourselves, before a cut) is at it, or elsewhere.
_LOST: Final = frozenset({_NOT_FOUND, 409, 416})
_SUCCESSES: Final = range(200, 300)
# What a mount may be answered with where the source is not for us to read.
_NOT_FOR_US: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingBlob:
    """A file of the store that another registry is to have."""

    digest: Digest
    path: Path
    size_bytes: int
    source: str = ""  # `namespace/model` of the same registry that may have it already
    note: Path | None = None  # where to remember the session, for files that go in parts


async def upload_blob(client: RegistryClient, blob: OutgoingBlob, sent: Sent) -> None:
    """Bring a file to the client's repository, unless it is there.

    `sent` is called with 0 or more again where the file begins anew, and with its size in the end.
    Raises RegistryFailed, OutboundRefused, and OSError where the file cannot be read.
    """
    descriptor = await asyncio.to_thread(os.open, blob.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size != blob.size_bytes:
            raise RegistryFailed(f"push {blob.digest}: the file has not the size it should have")
        with locked_note(blob.note if blob.size_bytes > SMALL_BYTES else None) as note:
            await _Upload(client, blob, descriptor, sent, note).run()
    finally:
        os.close(descriptor)
    sent(blob.size_bytes)


class _Upload:
    """The state of one upload. `_offset` is how much the registry has for certain."""

    def __init__(
        self, client: RegistryClient, blob: OutgoingBlob, descriptor: int, sent: Sent, note: Note
    ) -> None:
        self._client = client
        self._blob = blob
        self._descriptor = descriptor
        self._sent = sent
        self._path = client.remote.path
        self._what = f"push {blob.digest}"
        self._note = note
        self._session = note.read()  # its newest URL
        self._offset = 0
        self._is_certain = self._session is None  # that the offset is that of the registry
        self._is_resumed = False  # this session has gone on after a failure

    async def run(self) -> None:
        """Try until the registry has the file; whatever moves the upload on resets the count.

        A session that is left in the middle is one to go on with where it is noted, else dropped.
        """
        try:
            await self._try()
        finally:
            if self._note.read() is None:
                await self._drop()

    async def _try(self) -> None:
        failures = best = 0
        while True:
            try:
                return await self._attempt()
            except (OutboundRefused, OutboundTooLarge):
                raise
            except (OutboundFailed, Unsteady) as error:
                self._is_certain = False
                failures = 1 if self._offset > best else failures + 1
                best = max(best, self._offset)
                if failures >= self._client.policy.tries:
                    raise RegistryFailed(f"{self._what}: {error.message}") from error
                asked_s = error.asked_s if isinstance(error, Unsteady) else 0.0
            await asyncio.sleep(self._client.policy.delay_s(failures, asked_s))

    async def _attempt(self) -> None:
        """Go from what is known to the end. Raises Unsteady, OutboundFailed, RegistryFailed."""
        if not self._is_certain:
            await self._ask()
        if self._session is None and (await self._is_there() or await self._begin()):
            self._go_on_at(None)
            return
        size_bytes = self._blob.size_bytes
        if self._offset or size_bytes > SMALL_BYTES:
            while self._offset < size_bytes:
                await self._send_part()
        await self._finish()
        self._go_on_at(None)

    # ------------------------------------------------------------ the requests

    async def _is_there(self) -> bool:
        """Whether the repository has the file."""
        reply = await self._client.request(
            "HEAD", f"{self._path}/blobs/{self._blob.digest}", expected=None
        )
        if reply.status not in _SUCCESSES and reply.status != _NOT_FOUND:
            raise refusal(self._what, reply)
        return reply.status in _SUCCESSES

    async def _begin(self) -> bool:
        """Open a session; true where that alone has brought the file: it could be mounted."""
        self._offset, self._is_certain, self._is_resumed = 0, True, False
        self._sent(0)
        reply = await self._post(mounted=True) if self._blob.source else None
        if reply is None or reply.status in _NOT_FOR_US:
            reply = await self._post(mounted=False)
        if reply.status not in _SUCCESSES:
            raise refusal(self._what, reply)
        if reply.status == _CREATED:
            return True
        self._follow(reply.headers, reply.url)
        if self._session is None:
            raise RegistryFailed(f"{self._what}: the registry does not say where to send it")
        return False

    async def _post(self, *, mounted: bool) -> Reply:
        where = f"{self._path}/blobs/uploads/"
        if mounted:
            wanted = {"mount": str(self._blob.digest), "from": self._blob.source}
            where = f"{where}?{urlencode(wanted)}"
        headers = {"content-length": "0"}
        return await self._client.request("POST", where, headers=headers, expected=None)

    async def _send_part(self) -> None:
        """Send the bytes from the offset on, at most PART_BYTES."""
        start = self._offset
        end = min(start + PART_BYTES, self._blob.size_bytes)
        headers = {"content-range": f"{start}-{end - 1}"}
        reply = await self._deliver("PATCH", self._url(), headers, start, end)
        if reply.status in _LOST:
            raise Unsteady(f"the registry lost its place (status {reply.status})")
        if reply.status not in _SUCCESSES:
            raise refusal(self._what, reply)
        self._follow(reply.headers, reply.url)
        kept = _kept_bytes(reply.headers)
        if kept not in (None, end):
            raise Unsteady(f"the registry kept {kept} of {end} bytes")
        self._offset = end

    async def _finish(self) -> None:
        """Close the session with the file's digest, and with all its bytes where they are few."""
        query = urlencode({"digest": str(self._blob.digest)})
        url = self._url()
        url = f"{url}{'&' if '?' in url else '?'}{query}"
        reply = await self._deliver("PUT", url, {}, self._offset, self._blob.size_bytes)
        if reply.status in _LOST:
            raise Unsteady(f"the registry lost its place (status {reply.status})")
        if reply.status == _BAD_REQUEST and self._is_resumed:
            # What was put together from two sessions' worth of bytes was not what was meant.
            self._go_on_at(None)
            raise Unsteady(refusal(self._what, reply).message)
        if reply.status not in _SUCCESSES:
            raise refusal(self._what, reply)

    async def _ask(self) -> None:
        """Find out how much of the session the registry has; none where it knows it no longer."""
        if self._session is None:
            return
        try:
            async with self._client.send("GET", self._session) as answer:
                await require_steady(answer)
        except OutboundRefused:  # a note that is spoilt, or of what was allowed once
            self._go_on_at(None)
            return
        kept = _kept_bytes(answer.headers)
        if answer.status == _NO_CONTENT and kept is not None and kept <= self._blob.size_bytes:
            self._follow(answer.headers, answer.url)
            self._offset, self._is_certain, self._is_resumed = kept, True, True
            self._sent(kept)
        elif answer.status == _NO_CONTENT:
            await self._drop()
        else:
            self._go_on_at(None)

    async def _drop(self) -> None:
        """Have the registry forget what is left of the session, if it can be told."""
        session = self._session
        self._go_on_at(None)
        if session is None:
            return
        with contextlib.suppress(ServiceError, Unsteady, TimeoutError):
            async with asyncio.timeout(_CLEAN_UP_S), self._client.send("DELETE", session):
                pass

    # ------------------------------------------------------------ how they are sent

    def _url(self) -> str:
        if self._session is None:
            raise Unsteady("the registry has no session for it")
        return self._session

    async def _deliver(
        self, method: str, url: str, headers: Mapping[str, str], start: int, end: int
    ) -> Reply:
        """Send bytes of the file; where the registry leads elsewhere, all of them again there."""
        whole = {**headers, "content-type": _OCTETS, "content-length": str(end - start)}
        for _ in range(_MAX_REDIRECTS):
            async with self._answer(method, url, whole, start, end) as answer:
                location = answer.headers.get("location")
                if answer.status not in _KEPT_METHOD or location is None:
                    await require_steady(answer)
                    body = await answer.read()
                    return Reply(answer.status, answer.headers, body, answer.url)
                url = self._client.resolve(location, answer.url)
        raise RegistryFailed(f"{self._what}: more than {_MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], start: int, end: int
    ) -> AsyncIterator[Answer]:
        patience_s = self._client.policy.stall_s
        if method == "PUT":  # the registry may read all of it once more before it answers
            patience_s += self._blob.size_bytes / _HASHED_BYTES_PER_S
        caps = Caps(body_bytes=_MAX_ANSWER_BYTES, read_s=patience_s, total_s=None)

        def content() -> Content:
            return _Pieces(self._descriptor, start, end, self._sent) if end > start else b""

        async with self._client.send(
            method, url, headers=headers, content=content, caps=caps
        ) as answer:
            yield answer

    def _follow(self, headers: Mapping[str, str], base: str) -> None:
        """Go on at the newest address that the registry has told. Raises OutboundRefused."""
        location = headers.get("docker-upload-location") or headers.get("location")
        if location:
            self._go_on_at(self._client.resolve(location, base))

    def _go_on_at(self, session: str | None) -> None:
        self._session = session
        self._note.write(session)


class _Pieces:
    """A part of a file, read as the connection takes it. An asynchronous iterator."""

    def __init__(self, descriptor: int, start: int, end: int, sent: Sent) -> None:
        self._descriptor = descriptor
        self._at = start
        self._end = end
        self._sent = sent

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        self._sent(self._at)
        if self._at >= self._end:
            raise StopAsyncIteration
        wanted = min(_PIECE_BYTES, self._end - self._at)
        piece = await asyncio.to_thread(os.pread, self._descriptor, wanted, self._at)
        if not piece:
            raise RegistryFailed("the file has become shorter while it was sent")
        self._at += len(piece)
        return piece


def _kept_bytes(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes a registry says it has, or None where it does not tell for certain."""
    exact = headers.get(_EXACT, "")
    if exact.isascii() and exact.isdecimal():
        return int(exact)
    found = _RANGE.fullmatch(headers.get("range", ""))
    # `0-0` is what a registry says of no byte and of one.
    return int(found[1]) + 1 if found and int(found[1]) else None
