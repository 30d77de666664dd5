"""Debian's `docker-registry`, really started: open, with a password, and with tokens.

A foreign registry for the tests of pull and push. Tests that use a fixture of this module are
skipped where the program is not installed. Knows nothing of this site.
"""

import base64
import contextlib
import http.client
import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.processes.running_site import free_port, wait_for

USERNAME, PASSWORD = "lab", "sesame"
_SERVICE, _ISSUER = "lab-registry", "lab-issuer"
_BLOCK_BYTES = 256 * 1024
_NOT_FORWARDED = frozenset({"connection", "transfer-encoding", "keep-alive"})


@dataclass
class DockerRegistry:
    """One running registry; `username` and `password` are empty where it asks for none."""

    host: str  # 127.0.0.1:<port>
    folder: Path  # its storage
    username: str = ""
    password: str = ""
    asked: list[str] = field(default_factory=list)  # token requests and `METHOD path`, by the proxy

    @property
    def url(self) -> str:
        """Its address, which is plain http."""
        return f"http://{self.host}"

    def get(self, path: str, *, accept: str = "*/*") -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in lower case) and body of an answer of an open one."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def has_blob(self, digest: str) -> bool:
        """Whether the bytes of a blob, 64 hex, are stored, in whatever repository."""
        blobs = self.folder / "docker/registry/v2/blobs/sha256"
        return (blobs / digest[:2] / digest / "data").is_file()


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry for everybody."""
    with running_registry(tmp_path / "open-registry", {}) as registry:
        yield registry


@pytest.fixture
def password_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry that asks for a user name and a password (Basic)."""
    folder = tmp_path / "password-registry"
    auth = {"htpasswd": {"realm": "lab-realm", "path": str(_write_passwords(folder))}}
    with running_registry(folder, auth) as registry:
        registry.username, registry.password = USERNAME, PASSWORD
        yield registry


@pytest.fixture
def token_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry that asks for a token, which its own origin gives for a name and a password."""
    folder = tmp_path / "token-registry"
    folder.mkdir()
    issuer = TokenIssuer(folder)
    port = free_port()
    auth = {
        "token": {
            "realm": f"http://127.0.0.1:{port}/token",
            "service": _SERVICE,
            "issuer": _ISSUER,
            "rootcertbundle": str(issuer.certificate_path),
        }
    }
    with running_registry(folder, auth) as inner, _front(port, inner, issuer) as registry:
        yield registry


@contextlib.contextmanager
def running_registry(folder: Path, auth: dict[str, Any]) -> Iterator[DockerRegistry]:
    """Run the program with its storage in `folder` and an `auth` part of its configuration."""
    executable = shutil.which("docker-registry")
    if executable is None:
        pytest.skip("Debian's docker-registry is not installed")
    folder.mkdir(exist_ok=True)
    registry = DockerRegistry(f"127.0.0.1:{free_port()}", folder / "storage")
    configuration = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(registry.folder)},
            "delete": {"enabled": True},
        },
        "http": {"addr": registry.host},
    } | ({"auth": auth} if auth else {})
    path = folder / "configuration.yml"
    path.write_text(json.dumps(configuration))  # JSON is YAML
    with (folder / "registry.log").open("w") as log:
        command = [executable, "serve", str(path)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or _answers(registry.host))
        assert process.poll() is None, (folder / "registry.log").read_text()
        yield registry
    finally:
        process.kill()
        process.wait()


class TokenIssuer:
    """Signs tokens as contract/registry.md 2.4 has them, with a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_path = folder / "certificate.pem"
        self.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._der = certificate.public_bytes(serialization.Encoding.DER)

    def token(self, scopes: list[str], *, lives_s: int = 300) -> str:
        """Return a token for `repository:<name>:<actions>` scopes."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "sub": USERNAME,
            "aud": _SERVICE,
            "exp": now + lives_s,
            "nbf": now - 10,
            "iat": now,
            "access": [_access(scope) for scope in scopes],
        }
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._der).decode()]}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b".".join([signed, _encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))]).decode()


@contextlib.contextmanager
def _front(port: int, inner: DockerRegistry, issuer: TokenIssuer) -> Iterator[DockerRegistry]:
    """Serve `/token` and, by the registry behind, all else at one origin."""
    registry = DockerRegistry(f"127.0.0.1:{port}", inner.folder, USERNAME, PASSWORD)

    class Handler(_Front):
        outer, behind, tokens = registry, inner.host, issuer

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


class _Front(http.server.BaseHTTPRequestHandler):
    """Answers `/token` itself and hands on everything else, bytes as they come."""

    outer: DockerRegistry
    behind: str
    tokens: TokenIssuer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def __getattr__(self, name: str) -> Any:
        # `do_<METHOD>` is what the library looks for.
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        self.outer.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/token"):
            self._answer_token()
        else:
            self._forward()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer_token(self) -> None:
        word = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        is_known = self.headers.get("Authorization") == f"Basic {word}"
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        scopes = [scope for text in query.get("scope", []) for scope in text.split()]
        status = 200 if is_known else 401
        answer: dict[str, Any] = (
            {"token": self.tokens.token(scopes)} if is_known else {"errors": []}
        )
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self) -> None:
        connection = http.client.HTTPConnection(self.behind, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
            length = int(self.headers.get("Content-Length") or 0)
            connection.request(self.command, self.path, body=self._body(length), headers=headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_FORWARDED:
                    self.send_header(name, value)
            self.end_headers()
            while block := answer.read(_BLOCK_BYTES):
                self.wfile.write(block)
        finally:
            connection.close()

    def _body(self, length: int) -> Iterator[bytes] | None:
        return self._blocks(length) if length else None

    def _blocks(self, length: int) -> Iterator[bytes]:
        while length and (block := self.rfile.read(min(length, _BLOCK_BYTES))):
            length -= len(block)
            yield block


def _write_passwords(folder: Path) -> Path:
    executable = shutil.which("htpasswd")
    if executable is None:
        pytest.skip("Apache's htpasswd is not installed")
    folder.mkdir()
    path = folder / "passwords"
    command = [executable, "-B", "-b", "-n", USERNAME, PASSWORD]
    path.write_bytes(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    return path


def _answers(host: str) -> bool:
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        connection.close()


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
