"""The GPUs of this machine, as llama.cpp sees them. Asked in a process of its own, once.

Loading a GPU's driver takes memory and may crash; the node itself never does.
"""

import asyncio
import logging
import sys
from typing import Final

import msgspec

from inference.messages import Device

logger = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-I", "-m", "inference.engine.llama.devices")
_ANSWERS_WITHIN_S: Final = 60.0


async def find_devices() -> tuple[Device, ...]:
    """Return the GPUs; none where llama.cpp cannot be asked."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                told, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
        return msgspec.json.decode(told, type=tuple[Device, ...])
    except (OSError, TimeoutError, msgspec.MsgspecError) as error:
        logger.warning("the devices of this machine could not be read: %s", error)
        return ()
