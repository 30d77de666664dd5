"""A machine on which models cannot be run, and packages that are not those wanted."""

import resource
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from inference.frames import encode
from inference.messages import PROTOCOL_VERSION, Device, NodeReport, Welcome
from ollamasite.checkup import machine
from tests.ollamasite.checkup.found import codes
from tests.ollamasite.checkup.test_processes import node

LLAMA = Path(str(distribution("llama-cpp-python").locate_file("llama_cpp")))


def put_stub(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have child processes find another llama_cpp."""
    (folder / "llama_cpp").mkdir()
    (folder / "llama_cpp/__init__.py").write_text(text)
    (folder / "llama_cpp/lib").symlink_to(LLAMA / "lib")
    (folder / "llama_cpp/llama_cpp.py").write_text(
        "def llama_log_callback(function): return function\n"
        "def llama_log_set(*_): pass\n"
        "def llama_backend_init(): pass\n"
        "def llama_print_system_info(): return b'CPU : SSE3 = 1'\n"
        "def llama_supports_gpu_offload(): return False\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


def put_gpu_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have child processes find this machine's llama_cpp, with a backend for CUDA beside it."""
    (folder / "llama_cpp/lib").mkdir(parents=True)
    for path in (*LLAMA.glob("*.py"), *LLAMA.glob("lib/*.so*")):
        (folder / "llama_cpp" / path.relative_to(LLAMA)).symlink_to(path)
    (folder / "llama_cpp/lib/libggml-cuda.so").write_text("It needs a driver.")
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


@pytest.mark.parametrize("has_gpu", [True, False])
def test_gpu_build_that_can_use_none_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_gpu: bool
) -> None:
    put_gpu_build(tmp_path, monkeypatch)
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path if has_gpu else tmp_path / "none")
    found = [one for one in machine.look_at_llama() if one.code != "llama.slow"]
    assert codes(found) == {"llama.gpu-unusable"}
    assert "CUDA" in found[0].message
    assert "libggml-cuda.so: file too short" in found[0].message


def test_missing_driver_is_not_mended_by_another_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stub(tmp_path, monkeypatch, "raise RuntimeError('libcuda.so.1: cannot open shared object')")
    (found,) = machine.look_at_llama()
    assert "driver" in found.advice


def test_gpu_that_the_node_beside_uses_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    put_stub(tmp_path, monkeypatch, "")
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path)
    settings.ENGINE_SOCKET = tmp_path / "engine.sock"
    told = (
        Welcome(protocol=PROTOCOL_VERSION, node="here"),
        NodeReport(node="here", devices=(Device(name="NVIDIA L40S"),)),
    )
    with node(settings.ENGINE_SOCKET, b"".join(map(encode, told))):
        assert codes(machine.look_at_llama()) == set()


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
