"""Passwords in job rows."""

import pytest
from cryptography.fernet import InvalidToken
from pytest_django.fixtures import Settings

from registry.sealing import open_sealed, seal


def test_sealed_text_comes_back() -> None:
    assert open_sealed(seal("pä ss")) == "pä ss"


def test_sealed_text_shows_nothing() -> None:
    assert "hunter2" not in seal("hunter2")
    assert seal("hunter2") != seal("hunter2")


def test_nothing_stays_nothing() -> None:
    assert (seal(""), open_sealed("")) == ("", "")


def test_another_site_cannot_read_it(settings: Settings) -> None:
    sealed = seal("hunter2")
    settings.SECRET_KEY = "another"

    with pytest.raises(InvalidToken):
        open_sealed(sealed)
