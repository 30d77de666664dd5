"""A machine on which models cannot be run, and packages that are not those wanted."""

import resource
from pathlib import Path

import pytest

from ollamasite.checkup import machine
from tests.ollamasite.checkup.found import codes


def put_stub(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have child processes find another llama_cpp."""
    (folder / "llama_cpp").mkdir()
    (folder / "llama_cpp/__init__.py").write_text(text)
    (folder / "llama_cpp/llama_cpp.py").write_text(
        "def llama_backend_init(): pass\n"
        "def llama_print_system_info(): return b'CPU : SSE3 = 1'\n"
        "def llama_supports_gpu_offload(): return False\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.slow
@pytest.mark.beside
def test_library_of_this_machine_is_well() -> None:
    assert codes(machine.look_at_llama()) <= {"llama.no-gpu", "llama.slow"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
    ],
)
def test_library_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    put_stub(tmp_path, monkeypatch, text)
    (found,) = machine.look_at_llama()
    assert found.code == "llama.unusable"
    assert why in found.message


def test_library_that_uses_neither_gpu_nor_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stub(tmp_path, monkeypatch, "")
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path / "none")
    monkeypatch.setattr(machine, "_AMD", tmp_path / "none")
    assert codes(machine.look_at_llama()) == {"llama.slow"}

    monkeypatch.setattr(machine, "_NVIDIA", tmp_path)
    assert codes(machine.look_at_llama()) == {"llama.no-gpu"}


def test_packages_are_those_that_are_wanted() -> None:
    assert codes(machine.look_at_packages()) == set()


def test_older_package_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "msgspec-0.1.0.dist-info"
    older.mkdir()
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: msgspec\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = machine.look_at_packages()
    assert found.code == "python.packages"
    assert "msgspec is 0.1.0" in found.message


def test_missing_package_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "ollamasite-9.dist-info"
    site.mkdir()
    (site / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ollamasite\nVersion: 9\n"
        "Requires-Dist: no-such-package>=1\nRequires-Dist: neither; extra == 'other'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = machine.look_at_packages()
    assert "no-such-package is missing" in found.message
    assert "neither" not in found.message


def test_few_files_are_told_of() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        assert codes(machine.look_at_limits()) == {"limits.files"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
