"""The certificate that clients meet at the site's names, where a proxy speaks TLS for it."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from django.conf import settings

from ollamasite.checkup.findings import Finding, error, note, warning

_PORT: Final = 443
_TIMEOUT_S: Final = 5.0
_SOON: Final = timedelta(days=14)


def look() -> Iterator[Finding]:
    """Tell which certificates are over, or soon will be, and which nobody trusts."""
    if settings.SECURE_SSL_REDIRECT:
        for host in settings.SITE_HOSTS:
            yield from _look_at(host)


def _look_at(host: str) -> Iterator[Finding]:
    try:
        certificate = _certificate(host)
    except OSError as problem:
        why = problem.strerror or str(problem)
        yield note("tls.unreachable", f"{host}:{_PORT} was not looked at, from here it is: {why}.")
        return
    end = certificate.not_valid_after_utc
    told = f"{host}'s certificate", f"{end:%Y-%m-%d %H:%M} UTC"
    if end <= datetime.now(UTC):
        yield error(
            "tls.expired",
            f"{told[0]} was good until {told[1]}: every client refuses the site.",
            "Renew it, and have the proxy read it (nginx: reload).",
        )
        return
    if end - datetime.now(UTC) < _SOON:
        yield warning(
            "tls.expires",
            f"{told[0]} is good until {told[1]}.",
            "Renew it, and have the proxy read it (nginx: reload).",
        )
    if why := _distrust(host):
        yield warning(
            "tls.untrusted",
            f"{told[0]} is not trusted by this machine: {why}.",
            "Have the proxy send the intermediate certificates too; an authority of your own "
            "belongs on each client's list.",
        )


def _certificate(host: str) -> x509.Certificate:
    """Return what is shown at a name, whoever has signed it. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connect(host, context) as connection:
        shown = connection.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown or b"")


def _distrust(host: str) -> str:
    """Return why this machine does not trust what is shown; empty: it does."""
    try:
        _connect(host, ssl.create_default_context()).close()
    except ssl.SSLCertVerificationError as problem:
        return str(problem.verify_message)
    except OSError:  # it was there just now
        pass
    return ""


def _connect(host: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection = socket.create_connection((host, _PORT), timeout=_TIMEOUT_S)
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise
