"""This machine: Python, installed packages, limits, the library that runs models."""

import asyncio
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from packaging.requirements import Requirement

from inference import probe
from ollamasite.checkup.findings import Finding, error, warning

_LEAST_FILES: Final = 4096
_SELFTEST_S: Final = 60
_NODE_ANSWERS_S: Final = 5.0
_NVIDIA: Final = Path("/proc/driver/nvidia/version")
_AMD: Final = Path("/dev/kfd")
# Parts of GPUs' drivers, which no package brings.
_OF_DRIVERS: Final = ("libcuda.so", "libamdhip64.so", "libze_loader.so")
_FAST: Final = ("AVX2 = 1", "NEON = 1", "SVE = 1", "VSX = 1")


def look_at_packages() -> Iterator[Finding]:
    """Tell which packages are missing or of another version than this site needs."""
    wrong: list[str] = []
    for text in metadata.requires("ollamasite") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        yield error(
            "python.packages",
            f"Installed packages are not those that this version needs: {'; '.join(wrong)}.",
            "Install ollamasite again (`make install`, or pip).",
        )


def look_at_limits() -> Iterator[Finding]:
    """Tell of limits that the shell or service manager sets."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _LEAST_FILES:
        yield warning(
            "limits.files",
            f"A process may have {files} files and connections open (at most {most}): every "
            "stream needs one.",
            f"ulimit -n {_LEAST_FILES}, or LimitNOFILE= in the service's unit.",
        )


def look_at_llama() -> Iterator[Finding]:
    """Tell whether models can be run here, and on what."""
    command = [sys.executable, "-m", "inference.engine.llama.selftest"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SELFTEST_S
        )
    except subprocess.TimeoutExpired:
        yield _unusable(f"it did not load within {_SELFTEST_S} s")
        return
    if done.returncode:
        yield _unusable(_why(done))
        return
    yield from _processors(json.loads(done.stdout))


def _processors(found: dict[str, Any]) -> Iterator[Finding]:
    has_gpu = _NVIDIA.exists() or _AMD.exists()
    if found["gpu_problem"]:
        yield warning(
            "llama.gpu-unusable",
            "llama.cpp was built for GPUs and can use none, so models run on the CPU: "
            f"{found['gpu_problem']}.",
            "See that `nvidia-smi` lists the GPU here; for a container, that NVIDIA's container "
            "toolkit is installed on its host (docs/ops.md, GPU setup).",
        )
    elif has_gpu and not found["can_use_gpu"] and not _node_has_devices():
        yield warning(
            "llama.no-gpu",
            "This machine has a GPU, and llama.cpp was built without support for it.",
            "Build llama-cpp-python for it (docs/ops.md, GPU setup). If inference has such a "
            "build, the first lines of its log say why it uses none.",
        )
    if not has_gpu and not any(feature in found["system"] for feature in _FAST):
        yield warning(
            "llama.slow",
            "llama.cpp uses none of this processor's vector instructions: models are slow.",
            "Build llama-cpp-python on this machine.",
        )


def _node_has_devices() -> bool:
    """Whether the inference process beside this one uses GPUs: it may have an image of its own."""
    asking = probe.devices_of(Path(settings.ENGINE_SOCKET), timeout_s=_NODE_ANSWERS_S)
    try:
        return bool(asyncio.run(asking))
    except probe.NodeProblem:
        return False


def _unusable(why: str) -> Finding:
    advice = "Install llama-cpp-python again on this machine (`make install` builds it)."
    if any(name in why for name in _OF_DRIVERS):
        advice = (
            "That is a part of the GPU's driver: install it; for a container, NVIDIA's container "
            "toolkit on its host. Without a GPU, build llama-cpp-python without support for it "
            "(docs/ops.md, GPU setup)."
        )
    return error(
        "llama.unusable", f"llama.cpp cannot be loaded, so no model can be run: {why}.", advice
    )


def _why(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {done.returncode}"
