"""The GPUs of this machine, as llama.cpp sees them. Asked in a process of its own, once.

Loading a GPU's driver takes memory and may crash; the node itself never does. A build for the CPU
alone is not asked: that takes 0.3 s of computing at each start.
"""

import asyncio
import logging
import re
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from inference.engine.runner_messages import FoundDevices
from inference.messages import Device

logger = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-I", "-m", "inference.engine.llama.devices")
_ANSWERS_WITHIN_S: Final = 60.0
_OF_CPUS: Final = re.compile(r"(lib)?ggml(\.|-base|-cpu|-blas)")


async def find_devices() -> tuple[Device, ...]:
    """Return the GPUs. The log says why there are none where there should be some."""
    if not _is_for_gpus():
        return ()
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            code, told, said = await _ask()
        if code:
            logger.error("llama.cpp cannot be loaded, so no model can be run: %s", _why(code, said))
            return ()
        found = msgspec.json.decode(told, type=FoundDevices)
    except (OSError, TimeoutError, msgspec.MsgspecError) as error:
        logger.warning("the devices of this machine could not be read: %s", error)
        return ()
    for device in found.devices:
        logger.info("models can be run on %s", device.name)
    if found.problem:
        logger.warning(
            "models run on the CPU: llama.cpp was built for GPUs and can use none (%s)",
            found.problem,
        )
    return found.devices


def _is_for_gpus() -> bool:
    """Whether there is a library of ggml's for something else than CPUs."""
    found = find_spec("llama_cpp")
    folders = (found and found.submodule_search_locations) or ()
    libraries = [path.name for folder in folders for path in Path(folder).glob("lib/*ggml*")]
    # Without any, asking tells what is wrong.
    return not libraries or not all(map(_OF_CPUS.match, libraries))


async def _ask() -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, told, said


def _why(code: int, said: bytes) -> str:
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it does not say why"
