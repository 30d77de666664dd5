"""Certificates that are over or soon will be, shown by a server that really speaks TLS."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from ollamasite.checkup import certificates
from tests.certificates import make_certificate
from tests.ollamasite.checkup.found import codes

HOST = "localhost"


@contextlib.contextmanager
def tls_server(folder: Path, days: float) -> Iterator[int]:
    """Show a certificate that is good for so many days; yield the port."""
    make_certificate(folder, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # it was closed: the test is over
                while True:
                    client, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(client, True) as shown:
                        shown.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture(autouse=True)
def _by_https(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SITE_HOSTS = [HOST]


@pytest.mark.parametrize(
    ("days", "is_trusted", "expected"),
    [
        (90, True, set()),
        (90, False, {"tls.untrusted"}),
        (5, True, {"tls.expires"}),
        (-0.01, False, {"tls.expired"}),
    ],
)
def test_what_clients_meet_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: float,
    is_trusted: bool,
    expected: set[str],
) -> None:
    with tls_server(tmp_path, days) as port:
        monkeypatch.setattr(certificates, "_PORT", port)
        if is_trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))
        assert codes(certificates.look()) == expected


def test_proxy_that_is_elsewhere_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(certificates, "_PORT", port)
    assert codes(certificates.look()) == {"tls.unreachable"}


def test_site_without_https_has_none(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = False
    assert codes(certificates.look()) == set()
