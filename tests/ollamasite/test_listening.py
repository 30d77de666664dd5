"""Where commands find the site that runs beside them."""

from pathlib import Path

import pytest
from django.conf import settings as told
from pytest_django.fixtures import Settings

from ollamasite.listening import LOCK, Address, address
from ollamasite.start_checks import hold_lock


@pytest.fixture(autouse=True)
def _own_data_dir(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = settings.RUN_DIR = tmp_path


def test_site_that_runs_is_found(tmp_path: Path) -> None:
    Address("0.0.0.0", 8123).leave()  # noqa: S104 - nothing is bound
    assert address() == (told.BIND_HOST, told.BIND_PORT), "it was left by one that has ended"
    hold_lock(tmp_path / LOCK, patience_s=0)
    assert address() == ("0.0.0.0", 8123)  # noqa: S104 - same


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null"])
def test_settings_tell_where_nothing_was_left(tmp_path: Path, text: str | None) -> None:
    hold_lock(tmp_path / LOCK, patience_s=0)
    if text is not None:
        (tmp_path / "address.json").write_text(text)
    assert address() == (told.BIND_HOST, told.BIND_PORT)
