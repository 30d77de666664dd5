"""Settings that contradict each other or leave the site open."""

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from ollamasite.checkup.findings import Finding, error, warning
from ollamasite.listening import address

_LEAST_SECRET: Final = 32
# A network of proxies that is larger than these has others in it as well.
_WIDEST: Final = {4: 16, 6: 48}


def look() -> Iterator[Finding]:
    """Tell what is wrong with the settings."""
    yield from _debug()
    yield from _https()
    yield from _proxies()
    yield from _secrets()
    yield from _redis()
    for found in checks.run_checks():
        if found.level >= checks.ERROR:
            yield error(f"django.{found.id}", found.msg, found.hint or "See Django's manual.")


def _debug() -> Iterator[Finding]:
    if settings.DEBUG:
        level = warning if is_local(address().host) else error
        yield level(
            "settings.debug",
            "OLLAMASITE_DEBUG is on: failures show code and settings to whoever causes them.",
            "Unset it.",
        )


def _https() -> Iterator[Finding]:
    is_https, host = settings.SECURE_SSL_REDIRECT, address().host
    if not is_https and not is_local(host):
        yield warning(
            "settings.no-tls",
            f"The site listens on {host} without HTTPS: keys and passwords can be "
            "read on their way.",
            "Put a proxy with TLS in front of it and set OLLAMASITE_HTTPS=1 (docs/ops.md).",
        )
    if is_https and not settings.SITE_HOSTS:
        yield error(
            "settings.no-host",
            "OLLAMASITE_HTTPS is on and OLLAMASITE_ALLOWED_HOSTS names no host: browsers that "
            "come by the site's name are refused, and forms too.",
            "Set OLLAMASITE_ALLOWED_HOSTS to the name that people use.",
        )
    if not is_https and settings.TRUSTED_PROXIES and not is_local(host):
        yield warning(
            "settings.proxy-without-https",
            "There is a trusted proxy, and OLLAMASITE_HTTPS is off: cookies are sent without TLS.",
            "Set OLLAMASITE_HTTPS=1 where the proxy speaks TLS.",
        )


def _proxies() -> Iterator[Finding]:
    for text in settings.TRUSTED_PROXIES:
        network = ipaddress.ip_network(text)
        if network.is_loopback or network.prefixlen >= _WIDEST[network.version]:
            continue
        yield error(
            "settings.wide-proxies",
            f"OLLAMASITE_TRUSTED_PROXIES has {text}: whoever is in it can write any address as "
            "the client's, and so pass by networks of keys and the guard on guessing.",
            "Name the proxies' own addresses.",
        )


def _secrets() -> Iterator[Finding]:
    named = {
        "OLLAMASITE_SECRET_KEY": settings.SECRET_KEY,
        "OLLAMASITE_KEY_PEPPER": settings.KEY_PEPPER,
    }
    for name, value in named.items():
        if len(value) < _LEAST_SECRET:
            yield error(
                "secrets.short",
                f"{name} has {len(value)} characters: it can be guessed.",
                f"Use at least {_LEAST_SECRET} random ones. Another pepper makes all keys void.",
            )
    if settings.SECRET_KEY == settings.KEY_PEPPER:
        yield warning(
            "secrets.same",
            "OLLAMASITE_SECRET_KEY and OLLAMASITE_KEY_PEPPER are the same.",
            "Use another OLLAMASITE_SECRET_KEY; people have to sign in again then.",
        )


def _redis() -> Iterator[Finding]:
    url = urlsplit(settings.REDIS_URL)
    is_open = url.scheme == "redis" and not is_local(url.hostname or "")
    if is_open and not url.password:
        yield warning(
            "settings.open-redis",
            f"Redis on {url.hostname} is used without a password: whoever reaches it can change "
            "limits and start jobs.",
            "Give it a password (requirepass), and name it in OLLAMASITE_REDIS_URL.",
        )


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
