"""A store of which files are missing, damaged or nobody's."""

from pathlib import Path

import pytest

from ollamasite.checkup import store as checked
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import MakeModel
from tests.ollamasite.checkup.found import codes

pytestmark = pytest.mark.django_db


@pytest.fixture
def weights(make_model: MakeModel, store: BlobStore, tiny_gguf: Path) -> Path:
    make_model("mine")
    return store.path(Digest.of(tiny_gguf.read_bytes()))


def test_whole_store_is_well(weights: Path, store: BlobStore) -> None:
    (store.root / "partial-somewhere").touch()
    assert codes(checked.look()) == set()
    assert codes(checked.look_at_bytes()) == set()
    assert codes(checked.look_at_some_bytes()) == set()


def test_site_without_models_is_well(db: None) -> None:
    assert codes(checked.look()) == set()


def test_missing_file_is_told_with_its_models(weights: Path) -> None:
    weights.unlink()
    (found,) = checked.look()
    assert found.code == "store.missing"
    assert "mine" in found.message


def test_file_that_was_cut_off_is_told_by_its_size(weights: Path) -> None:
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[:-1])
    assert codes(checked.look()) == {"store.damaged"}


def test_changed_byte_is_found_by_reading_alone(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    assert codes(checked.look()) == set()
    assert codes(checked.look_at_bytes()) == {"store.damaged"}
    assert codes(checked.look_at_some_bytes()) == {"store.damaged"}
    monkeypatch.setattr(checked, "_SAMPLE_BYTES", len(data) - 1)
    assert codes(checked.look_at_some_bytes()) == set(), "it is larger than what may be read"


def test_files_of_nobody_and_damaged_ones_are_told(weights: Path, store: BlobStore) -> None:
    (store.root / "holiday.jpg").touch()
    (store.root / f"damaged-{'0' * 64}").touch()
    assert codes(checked.look()) == {"store.foreign", "store.set-aside"}
