"""A real Ollama server as a registry sees it: what one sends on pull and push, and what it minds.

After contract/registry.md 1.3-1.7 and 3.1, and stubborn where a real one is: it parses challenges
naively, wants absolute addresses, looks at no status of a part, asks nobody how far an upload is,
and begins a part again from its first byte. Parts are small where a real one's have 100 MB. Plain
`http.client`; knows nothing of how a registry works inside.
"""

import base64
import hashlib
import http.client
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from tests.fakes.ollama_key import OllamaKey

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
_AGENT: Final = "ollama/0.33.0 (amd64 linux) Go/go1.26.0"
_PLAIN_AGENT: Final = "Go-http-client/1.1"
_TRIES: Final = 6
_PARTS: Final = 16
_PROBED_BYTES: Final = 100_000
_TIMEOUT_S: Final = 30.0


class OllamaError(Exception):
    """What an Ollama server tells its user."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and the status of its answer, 0 for none. Header names are in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    status: int

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        """The query's values, the last of each name."""
        return dict(parse_qsl(urlsplit(self.url).query))


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    url: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class OllamaServer:
    """One machine: its key, its files, and the models whose manifests it has.

    `part_bytes`: the least that a part has; `retry_s`: before the second try of a part.
    """

    url: str  # of the registry
    key: OllamaKey
    part_bytes: int = 100_000
    retry_s: float = 0.01
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)  # `ns/model:tag` → bytes
    sent: list[Sent] = field(default_factory=list)
    # Called before each part of an upload; what it raises is a failed try.
    before_part: Callable[[], None] = lambda: None
    token: str = ""

    def add(self, data: bytes, media_type: str, **fields: str) -> dict[str, Any]:
        """Have a file; return its entry in a manifest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def requests(self, method: str, part_of_path: str = "") -> list[Sent]:
        """Return what was sent by a method, in order."""
        return [it for it in self.sent if it.method == method and part_of_path in it.path]

    # -------------------------------------------------------------- pull

    def pull(self, name: str) -> dict[str, Any]:
        """Pull `ns/model:tag` and return its manifest. Raises OllamaError."""
        self.token = ""
        repository, _, tag = name.partition(":")
        accept = {"Accept": MANIFEST_TYPE}
        got = self._registry("GET", f"/v2/{repository}/manifests/{tag}", accept)
        if got.status == 404:
            raise OllamaError("pull model manifest: file does not exist")
        manifest: dict[str, Any] = json.loads(got.body)
        fetched = []
        for layer in (*manifest["layers"], manifest["config"]):
            if layer["digest"] not in self.blobs:
                self.blobs[layer["digest"]] = self._download(repository, layer["digest"])
                fetched.append(layer["digest"])
        for digest in fetched:
            self._verify(digest)
        self.manifests[name] = got.body
        return manifest

    def _download(self, repository: str, digest: str) -> bytes:
        path = f"/v2/{repository}/blobs/{digest}"
        total = int(self._registry("HEAD", path).headers.get("Content-Length", 0))
        direct = self._direct_url(path)
        size = max(total // _PARTS, self.part_bytes)
        spans = [(start, min(start + size, total)) for start in range(0, total, size)]
        with ThreadPoolExecutor(_PARTS) as pool:
            return b"".join(pool.map(lambda span: self._part(direct, *span), spans))

    def _direct_url(self, path: str) -> str:
        """Ask for a whole file, leave, and take the address of the answer."""
        got = self._registry("GET", path, reads_bytes=_PROBED_BYTES)
        if got.status not in (200, 307):
            raise OllamaError(f"unexpected status code {got.status}")
        location = got.headers.get("Location")
        if location is None:
            raise OllamaError("http: no Location header in response")
        return urljoin(got.url, location)

    def _part(self, url: str, start: int, end: int) -> bytes:
        data = b""
        for number in range(_TRIES):
            told = {"Range": f"bytes={start + len(data)}-{end - 1}"}
            wanted = end - start - len(data)
            try:
                body = self._send("GET", url, told, agent=_PLAIN_AGENT).body
            except http.client.IncompleteRead as error:
                data += error.partial[:wanted]
            except OSError:
                pass
            else:
                if len(body) >= wanted:  # whatever its status says
                    return data + body[:wanted]
            time.sleep(self.retry_s * 2**number)
        raise OllamaError("max retries exceeded: unexpected EOF")

    def _verify(self, digest: str) -> None:
        got = f"sha256:{hashlib.sha256(self.blobs[digest]).hexdigest()}"
        if got != digest:
            del self.blobs[digest]
            words = "digest mismatch, file must be downloaded again"
            raise OllamaError(f"{words}: want {digest}, got {got}")

    # -------------------------------------------------------------- push

    def push(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Push a model whose files are here as `ns/model:tag`. Raises OllamaError."""
        self.token = ""
        repository, _, tag = name.partition(":")
        for layer in (*manifest["layers"], manifest["config"]):
            path = f"/v2/{repository}/blobs/{layer['digest']}"
            got = self._registry("HEAD", path)
            if got.status == 404:
                self._upload(repository, layer)
            elif got.status != 200:
                raise OllamaError(f"{got.status}: {got.body.decode()}")
        body = json.dumps(manifest, separators=(",", ":")).encode()
        told = {"Content-Type": MANIFEST_TYPE}
        self._require(self._registry("PUT", f"/v2/{repository}/manifests/{tag}", told, body))

    def _upload(self, repository: str, layer: Mapping[str, Any]) -> None:
        digest = layer["digest"]
        data = self.blobs[digest]
        path = f"/v2/{repository}/blobs/uploads/"
        if "from" in layer:
            source = layer["from"].partition(":")[0]
            path += f"?{urlencode({'from': source, 'mount': digest})}"
        begun = self._require(self._registry("POST", path))
        if begun.status == 201:
            return  # mounted
        url = _next_url(begun)
        size = max(len(data) // _PARTS, self.part_bytes)
        sums = hashlib.md5(usedforsecurity=False)
        starts = range(0, len(data), size)
        for start in starts:
            part = data[start : start + size]
            url = self._upload_part(url, start, part)
            sums.update(hashlib.md5(part, usedforsecurity=False).digest())
        split = urlsplit(url)
        fields = [*parse_qsl(split.query), ("digest", digest)]
        fields.append(("etag", f"{sums.hexdigest()}-{len(starts)}"))
        whole = urlunsplit(split._replace(query=urlencode(sorted(fields))))
        told = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
        self._require(self._registry("PUT", whole, told))

    def _upload_part(self, url: str, start: int, part: bytes) -> str:
        """Send a part, from its first byte each time, and return where the next one goes."""
        told = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(part)),
            "Content-Range": f"{start}-{start + len(part) - 1}",
            "X-Redirect-Uploads": "1",
        }
        failure = ""
        for number in range(_TRIES):
            try:
                self.before_part()
                got = self._send("PATCH", url, {**told, **self._credential()}, part)
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
            else:
                if got.status < 400:
                    return _next_url(got)
                if got.status == 401:
                    self.token = self._token(got)
                failure = f"http status {got.status}: {got.body.decode()}"
            time.sleep(self.retry_s * 2**number)
        raise OllamaError(f"max retries exceeded: {failure}")

    # -------------------------------------------------------------- requests

    def _registry(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        reads_bytes: int | None = None,
    ) -> Got:
        """Send a request in one's own name; a 401 is answered once. Raises OllamaError."""
        url = urljoin(self.url, path)
        for _ in range(2):
            told = {**(headers or {}), **self._credential()}
            got = self._send(method, url, told, body, reads_bytes=reads_bytes)
            if got.status != 401:
                return got
            self.token = self._token(got)
        raise OllamaError("unauthorized: access denied")

    def _credential(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _token(self, refused: Got) -> str:
        challenge = refused.headers.get("WWW-Authenticate", "").removeprefix("Bearer ")
        realm = urlsplit(_value(challenge, "realm"))
        host = urlsplit(refused.url).netloc
        if realm.netloc != host:
            raise OllamaError(f"realm host {realm.netloc!r} does not match original host {host!r}")
        fields = [("service", _value(challenge, "service"))]
        fields += [("scope", word) for word in _value(challenge, "scope").split(" ")]
        fields.append(("ts", str(int(time.time()))))
        fields.append(("nonce", base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")))
        # Keys in order; values of one key as they came.
        query = urlencode(sorted(fields, key=lambda pair: pair[0]))
        url = urlunsplit(realm._replace(query=query))
        no_body = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
        got = self._send("GET", url, {"Authorization": self.key.sign(f"GET,{url},{no_body}")})
        if got.status >= 400:
            raise OllamaError(f"{got.status}: {got.body.decode()}")
        return str(json.loads(got.body)["token"])

    def _require(self, got: Got) -> Got:
        if got.status >= 400:
            raise OllamaError(f"{got.status}: {got.body.decode()}")
        return got

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        agent: str = _AGENT,
        reads_bytes: int | None = None,
    ) -> Got:
        """Send one request; nothing is followed, and no more than so many bytes are read."""
        target = urlsplit(url)
        if not target.netloc:
            raise OllamaError("http: no Host in request URL")
        path = urlunsplit(("", "", target.path, target.query, ""))
        told = {"Host": target.netloc, "User-Agent": agent, **headers}
        if body is not None or method in ("POST", "PUT", "PATCH"):
            told.setdefault("Content-Length", str(len(body or b"")))
        if "Range" not in told and method != "HEAD":
            told["Accept-Encoding"] = "gzip"
        connection = http.client.HTTPConnection(target.netloc, timeout=_TIMEOUT_S)
        status = 0
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, text in told.items():
                connection.putheader(name, text)
            connection.endheaders(body)
            answer = connection.getresponse()
            status = answer.status
            return Got(url, status, answer.headers, answer.read(reads_bytes))
        finally:
            connection.close()
            lower = {name.lower(): text for name, text in told.items()}
            self.sent.append(Sent(method, url, lower, status))


def _next_url(got: Got) -> str:
    return str(got.headers.get("Docker-Upload-Location") or got.headers.get("Location", ""))


def _value(challenge: str, key: str) -> str:
    """Read `key="…"` as Ollama does: only a quote before a comma, or the last one, ends it."""
    _, found, rest = challenge.partition(f'{key}="')
    if not found:
        return ""
    return rest.split('",')[0].removesuffix('"')
