"""A signature opens one file of one repository, for one user, for a time."""

from datetime import timedelta

import pytest
import time_machine

from registry import signed_urls
from registry.digest import Digest

FILE = Digest.of(b"file")
OTHER = Digest.of(b"other")


def test_signature_opens_what_it_was_made_for() -> None:
    signature = signed_urls.sign(7, "alice/model", FILE)

    assert signed_urls.user_of(signature, "alice/model", FILE) == 7
    assert signed_urls.user_of(signature, "Alice/MODEL", FILE) == 7


@pytest.mark.parametrize(("path", "digest"), [("alice/other", FILE), ("alice/model", OTHER)])
def test_signature_opens_nothing_else(path: str, digest: Digest) -> None:
    assert signed_urls.user_of(signed_urls.sign(7, "alice/model", FILE), path, digest) is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_nothing_in_a_signature_can_be_changed(part: int) -> None:
    parts = signed_urls.sign(7, "alice/model", FILE).split("-")
    parts[part] = parts[part][:-1] + ("1" if parts[part][-1] != "1" else "2")

    assert signed_urls.user_of("-".join(parts), "alice/model", FILE) is None


@pytest.mark.parametrize("text", ["", "x", "1-2-3", f"1-2-{'0' * 64}", "\u0661-2-" + "0" * 64])
def test_nonsense_opens_nothing(text: str) -> None:
    assert signed_urls.user_of(text, "alice/model", FILE) is None


def test_signature_expires() -> None:
    with time_machine.travel("2026-01-01T12:00:00Z", tick=False) as clock:
        signature = signed_urls.sign(7, "alice/model", FILE)
        clock.shift(timedelta(seconds=signed_urls.LIFETIME_S - 1))
        before = signed_urls.user_of(signature, "alice/model", FILE)
        clock.shift(timedelta(seconds=1))

        assert (before, signed_urls.user_of(signature, "alice/model", FILE)) == (7, None)
