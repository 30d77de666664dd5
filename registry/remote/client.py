"""A client of another registry: manifests, files, and whatever else its API has.

Proves who it is when asked (`tokens`), repeats what may be repeated, and says in words what was
refused. contract/registry.md 1.4-1.6, 2 and 4. Knows no job and no file of the store.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, Self, TypeVar

import msgspec

from ollamasite.errors import OutboundFailed, OutboundRefused, OutboundTooLarge
from ollamasite.outbound.client import Answer, Caps, Content, OutboundClient
from ollamasite.outbound.urls import parse_url
from registry.digest import Digest
from registry.errors import RegistryFailed
from registry.manifests import MANIFEST_TYPES, MAX_MANIFEST_BYTES
from registry.remote import tokens
from registry.remote.reference import RemoteModel, hosts_for, origin_of
from registry.remote.tokens import Credentials

T = TypeVar("T")

_ACCEPTED: Final = ", ".join(MANIFEST_TYPES)
OK: Final = 200
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_SERVER_ERRORS: Final = 500
_TEMPORARY: Final = frozenset({408, 425, 429})
_LONGEST_WAIT_S: Final = 120.0
# For the first request of a pull.
_FIRST_TRIES: Final = 3
_SHOWN_BYTES: Final = 4096
_SHOWN_CHARACTERS: Final = 300
_UNREADABLE: Final = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often something is tried, how long before the next time (seconds), in what parts."""

    tries: int = 6
    base_s: float = 1.0
    most_s: float = 32.0
    stall_s: float = 30.0  # without a byte
    # Stalls do not count as failures; so many of them without any progress are the end.
    stalls: int = 20
    part_bytes: int | None = None  # of what is fetched at once; None: by the file's size

    def delay_s(self, failures: int, asked_s: float = 0.0) -> float:
        """Return how long to wait after so many failures, or as long as the other side asked."""
        usual_s = min(self.base_s * 2.0 ** max(0, failures - 1), self.most_s)
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        return max(usual_s * jitter, min(asked_s, _LONGEST_WAIT_S))


class Unsteady(Exception):
    """What may go better next time. `asked_s`: the wait that the other side asks for."""

    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.asked_s = asked_s


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names are in lower case; `url` is where it came from."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest as it came."""

    body: bytes
    media_type: str  # as told; perhaps empty


class RegistryClient:
    """Speaks to the registry of one model. An async context manager; keeps connections.

    `where` is a path such as `/v2/…` or a whole URL. Credentials go to the registry's own origin
    alone.
    """

    def __init__(
        self, remote: RemoteModel, credentials: Credentials, *, policy: RetryPolicy | None = None
    ) -> None:
        self.remote = remote
        self.policy = policy or RetryPolicy()
        self._credentials = credentials
        self._caps = Caps(body_bytes=MAX_MANIFEST_BYTES, read_s=self.policy.stall_s, total_s=120.0)
        self._http = OutboundClient(hosts_for(remote.origin), self._caps)
        self._authorization: str | None = None
        self._scopes: set[str] = set()
        self._renewing: asyncio.Task[str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await self._http.__aexit__()

    # ------------------------------------------------------------ what a registry has

    async def get_manifest(self, reference: str = "") -> RemoteManifest:
        """Return the manifest of a tag (else the model's own) or digest. Raises RegistryFailed."""
        path = f"{self.remote.path}/manifests/{reference or self.remote.tag}"
        what = "pull model manifest"
        # Nothing is lost yet: who has mistyped a name is not to wait for minutes.
        reply = await self.repeated(
            partial(self._once, "GET", path, {"accept": _ACCEPTED}), what, tries=_FIRST_TRIES
        )
        if reply.status != OK:
            raise _refusal(what, reply.status, _words(reply.body))
        told = reply.headers.get("docker-content-digest", "")
        if told.startswith("sha256:") and told != str(Digest.of(reply.body)):
            raise RegistryFailed("pull model manifest: the bytes are not those of its digest")
        return RemoteManifest(reply.body, reply.headers.get("content-type", ""))

    async def head_blob(self, digest: Digest) -> int | None:
        """Return a file's size in bytes, or None where the registry does not tell it.

        Raises RegistryFailed where it has no such file, or not for us.
        """
        path = f"{self.remote.path}/blobs/{digest}"
        reply = await self.request("HEAD", path, expected=None)
        if reply.status == OK:
            length = reply.headers.get("content-length", "")
            return int(length) if length.isdecimal() else None
        is_own = origin_of(reply.url) == self.remote.origin
        if is_own and reply.status in (_UNAUTHORIZED, 403, _NOT_FOUND):
            raise _refusal(f"pull {digest}", reply.status, "")
        return None  # no HEAD here, or a signed address that is for GET alone

    @asynccontextmanager
    async def open_blob(
        self, digest: Digest, *, size_bytes: int, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Answer]:
        """Ask for a file's bytes from `start` to before `end`, once; yield whatever is answered.

        Without an end the whole file is asked for, with no Range. Raises OutboundFailed,
        RegistryFailed.
        """
        headers = {"accept-encoding": "identity"}
        if end is not None:
            headers["range"] = f"bytes={start}-{end - 1}"
        caps = Caps(body_bytes=size_bytes + 1, read_s=self.policy.stall_s, total_s=None)
        path = f"{self.remote.path}/blobs/{digest}"
        async with self.send("GET", path, headers=headers, caps=caps) as answer:
            yield answer

    # ------------------------------------------------------------ requests

    async def request(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        expected: Collection[int] | None = (OK,),
        what: str = "",
    ) -> Reply:
        """Send a request, again where that may help, and return the answer with its body.

        `expected`: the statuses that are answers and no refusals; None: all. `what` begins the
        message of the RegistryFailed that is raised for others. Raises OutboundRefused.
        """
        reply = await self.repeated(partial(self._once, method, where, headers, content), what)
        if expected is not None and reply.status not in expected:
            raise _refusal(what or f"{method} {where}", reply.status, _words(reply.body))
        return reply

    async def _once(
        self,
        method: str,
        where: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Reply:
        async with self.send(method, where, headers=headers, content=content) as answer:
            await require_steady(answer)
            body = b"" if method == "HEAD" else await answer.read()
            return Reply(answer.status, answer.headers, body, answer.url)

    async def repeated(
        self, attempt: Callable[[], Awaitable[T]], what: str = "", *, tries: int | None = None
    ) -> T:
        """Do something until it goes well. Raises RegistryFailed after too many failures.

        `tries`: how many are too many, where that is fewer than usual.
        """
        failures = 0
        most = min(self.policy.tries, tries or self.policy.tries)
        while True:
            try:
                return await attempt()
            except OutboundRefused:
                raise
            except OutboundTooLarge as error:
                raise RegistryFailed(_sentence(what, error.message)) from error
            except (OutboundFailed, Unsteady) as error:
                failures += 1
                if failures >= most:
                    raise RegistryFailed(_sentence(what, error.message)) from error
                asked_s = error.asked_s if isinstance(error, Unsteady) else 0.0
            await asyncio.sleep(self.policy.delay_s(failures, asked_s))

    @asynccontextmanager
    async def send(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | Callable[[], Content] | None = None,
        caps: Caps | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request once and yield the answer; a 401 is answered by a token, once.

        A body that can be read once alone is to come as a function that makes it. Raises
        OutboundFailed and its kinds, RegistryFailed where there is no token to be had.
        """
        url = self.url(where)
        is_own = origin_of(url) == self.remote.origin
        for is_last in (False, True):
            sent = dict(headers or {})
            used = self._authorization
            if is_own and used is not None:
                sent["authorization"] = used
            body = content() if callable(content) else content
            async with self._http.stream(
                method, url, headers=sent, content=body, caps=caps
            ) as answer:
                challenge = self._challenge(answer)
                if is_last or challenge is None:
                    yield answer
                    return
            await self._renew(challenge, used)

    def want(self, actions: str) -> None:
        """Ask for these actions on the repository (`pull,push`) with every token from now on.

        A challenge to a GET speaks of reading alone, even where what is read takes the right to
        write: the state of an upload.
        """
        self._scopes.add(f"repository:{self.remote.repository}:{actions}")

    def url(self, where: str) -> str:
        """Return a path's URL at the registry; a whole URL stays what it is."""
        return f"{self.remote.origin}{where}" if where.startswith("/") else where

    def resolve(self, location: str, base: str) -> str:
        """Return where a Location header of an answer from `base` leads. Raises OutboundRefused."""
        further = parse_url(base).join(location)
        if base.startswith("https:") and further.scheme != "https":
            raise OutboundRefused("a redirect from https to http is not followed")
        return further.text

    # ------------------------------------------------------------ who we are

    def _challenge(self, answer: Answer) -> str | None:
        is_own = origin_of(answer.url) == self.remote.origin
        if answer.status != _UNAUTHORIZED or not is_own:
            return None
        return answer.headers.get("www-authenticate")

    async def _renew(self, challenge: str, used: str | None) -> None:
        """Get an authorization that is not the one that was refused. One for all who wait."""
        if self._authorization != used:
            return  # another part has got one meanwhile
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._authorize(challenge))
        renewing = self._renewing
        try:
            self._authorization = await asyncio.shield(renewing)
        finally:
            if renewing.done() and self._renewing is renewing:
                self._renewing = None

    async def _authorize(self, challenge: str) -> str:
        found = tokens.parse_challenges(challenge)
        if "bearer" in found:
            return f"Bearer {await self._token(dict(found['bearer']))}"
        basic = self._credentials.basic
        if "basic" not in found or basic is None or basic == self._authorization:
            raise RegistryFailed(f"the registry '{self.remote.origin.authority}' wants a login")
        return basic

    async def _token(self, challenge: dict[str, str]) -> str:
        # All that has been asked for so far: a token for the newest scope alone would shut out the
        # parts that work with another.
        self._scopes |= set(challenge.get("scope", "").split())
        challenge["scope"] = " ".join(sorted(self._scopes))
        caps = Caps(body_bytes=tokens.MAX_TOKEN_BYTES, total_s=30.0)

        async def attempt() -> tuple[int, bytes]:
            # Made anew each time: a registry takes a nonce once.
            asked = tokens.token_request(challenge, self.remote.origin, self._credentials)
            async with self._http.stream(
                "GET", asked.url, headers=asked.headers, caps=caps, follow=False
            ) as answer:
                await require_steady(answer)
                return answer.status, await answer.read()

        status, body = await self.repeated(attempt, "token")
        if status == _UNAUTHORIZED:
            words = f"{_words(body)}; {self._credentials.shown}"
            raise _refusal("token", status, words)
        if status != OK:
            raise _refusal("token", status, _words(body))
        return tokens.parse_token(body)


async def require_steady(answer: Answer) -> None:
    """Raise Unsteady for a status after which the same request may go well."""
    if answer.status in _TEMPORARY or answer.status >= _SERVER_ERRORS:
        asked_s = _asked_s(answer.headers.get("retry-after", ""))
        raise Unsteady(f"the registry answered with the status {answer.status}", asked_s)


async def refused(what: str, answer: Answer) -> RegistryFailed:
    """Return what to raise for an answer whose body has not been read."""
    body = b""
    async for chunk in answer.chunks():
        body += chunk
        if len(body) >= _SHOWN_BYTES:
            break
    return _refusal(what, answer.status, _words(body))


def refusal(what: str, reply: Reply) -> RegistryFailed:
    """Return what to raise for an answer that is none of those that were expected."""
    return _refusal(what, reply.status, _words(reply.body))


def _refusal(what: str, status: int, words: str) -> RegistryFailed:
    if status == _NOT_FOUND and what == "pull model manifest":
        return RegistryFailed(f"{what}: file does not exist")
    reasons = {_UNAUTHORIZED: "unauthorized", 403: "access denied", _NOT_FOUND: "not found"}
    reason = reasons.get(status, f"status {status}")
    return RegistryFailed(_sentence(what, f"{reason}: {words}" if words else reason))


def _sentence(what: str, message: str) -> str:
    return f"{what}: {message}" if what else message


def _words(body: bytes) -> str:
    """Return what a refusal says, as one short line."""
    text = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    try:
        answer = msgspec.json.decode(body)
        errors = answer.get("errors") or [answer]
        text = str(errors[0].get("message") or errors[0].get("error") or errors[0].get("code"))
    except (msgspec.MsgspecError, RecursionError, AttributeError, LookupError, TypeError):
        pass  # it is text, or JSON of another shape, and is shown as it is
    return _UNREADABLE.sub(" ", text).strip()[:_SHOWN_CHARACTERS]


def _asked_s(retry_after: str) -> float:
    """Read a Retry-After header: seconds or a date."""
    if retry_after.isascii() and retry_after.isdecimal():
        return min(float(retry_after[:9]), _LONGEST_WAIT_S)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
