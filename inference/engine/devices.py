"""The GPUs of this machine, as llama.cpp sees them. Asked in a process of its own, once.

Loading a GPU's driver takes memory and may crash; the node itself never does.
"""

import asyncio
import logging
import signal
import sys
from typing import Final

import msgspec

from inference.engine.runner_messages import FoundDevices
from inference.messages import Device

logger = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-I", "-m", "inference.engine.llama.devices")
_ANSWERS_WITHIN_S: Final = 60.0


async def find_devices() -> tuple[Device, ...]:
    """Return the GPUs. The log says why there are none where there should be some."""
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
