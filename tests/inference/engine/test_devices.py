"""What the node learns of this machine's GPUs, and what its log says where it can use none."""

import asyncio
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from inference import probe
from inference.engine import devices
from inference.engine.config import EngineConfig
from inference.engine.devices import find_devices
from inference.engine.llama import backend
from inference.engine.llama import devices as llama_devices
from inference.engine.runner_messages import FoundDevices
from inference.engine.server import serve
from inference.messages import Device


def answer(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have another program asked."""
    monkeypatch.setattr(devices, "_is_for_gpus", lambda: True)
    monkeypatch.setattr(devices, "_COMMAND", (sys.executable, "-I", "-c", code))


async def test_devices_are_those_that_the_program_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, """print('{"devices": [{"name": "L40S", "total_bytes": 48}]}')""")

    assert await find_devices() == (Device(name="L40S", total_bytes=48),)


async def test_gpu_build_without_a_gpu_is_a_sentence_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer(monkeypatch, """print('{"problem": "CUDA: libcuda.so.1: cannot open"}')""")

    assert await find_devices() == ()
    assert [record.message for record in caplog.records] == [
        "models run on the CPU: llama.cpp was built for GPUs and can use none "
        "(CUDA: libcuda.so.1: cannot open)"
    ]


async def test_library_that_does_not_load_is_a_sentence_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer(monkeypatch, "raise RuntimeError('libcuda.so.1: cannot open')")

    assert await find_devices() == ()
    assert [record.message for record in caplog.records] == [
        "llama.cpp cannot be loaded, so no model can be run: "
        "RuntimeError: libcuda.so.1: cannot open"
    ]


async def test_crash_of_a_driver_is_a_sentence_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    assert await find_devices() == ()
    assert "no model can be run: it was ended by SIGSEGV" in caplog.text


@pytest.mark.parametrize(
    ("names", "is_for_gpus"),
    [
        (["libggml.so", "libggml-base.so.0", "libggml-cpu.so"], False),
        (["libggml.so", "libggml-cpu-haswell.so", "libggml-blas.so"], False),
        (["libggml.so", "libggml-cpu.so", "libggml-cuda.so"], True),
        (["libggml.dylib", "libggml-metal.dylib"], True),
        ([], True),
    ],
)
def test_only_a_build_for_gpus_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], *, is_for_gpus: bool
) -> None:
    (tmp_path / "lib").mkdir()
    for name in names:
        (tmp_path / "lib" / name).touch()
    spec = ModuleSpec("llama_cpp", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(devices, "find_spec", {"llama_cpp": spec}.get)

    assert devices._is_for_gpus() is is_for_gpus


async def test_node_of_the_site_itself_reports_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, """print('{"devices": [{"name": "L40S"}]}')""")
    stopping, path = asyncio.Event(), tmp_path / "e.sock"
    serving = asyncio.create_task(
        serve(EngineConfig(socket_path=path, blobs_dir=tmp_path), stopping)
    )
    try:
        async with asyncio.timeout(60):
            found: tuple[Device, ...] = ()
            while not found:
                await asyncio.sleep(0.05)
                with suppress(probe.NodeProblem):  # it does not listen yet
                    found = await probe.devices_of(path, timeout_s=30)
    finally:
        stopping.set()
        await serving

    assert found == (Device(name="L40S"),)


async def test_node_that_stops_while_it_looks_ends_that_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, f"open({str(tmp_path / 'asked')!r}, 'w'); import time; time.sleep(600)")
    stopping = asyncio.Event()
    config = EngineConfig(socket_path=tmp_path / "e.sock", blobs_dir=tmp_path)
    serving = asyncio.create_task(serve(config, stopping))
    async with asyncio.timeout(60):
        while not (tmp_path / "asked").exists():
            await asyncio.sleep(0.05)
        stopping.set()
        await serving


def test_this_machines_library_is_read() -> None:
    found = llama_devices.find()

    assert isinstance(found, FoundDevices)
    assert all(device.total_bytes for device in found.devices)


def test_backend_that_does_not_load_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "LIBRARIES", tmp_path)
    assert llama_devices.problem() == ""

    (tmp_path / "libggml-vulkan.so").touch()
    assert llama_devices.problem() == f"VULKAN: {tmp_path}/libggml-vulkan.so: file too short"
