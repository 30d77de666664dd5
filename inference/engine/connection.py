"""The node's side of one web process's connection. Knows no scheduling."""

import asyncio
import logging
from typing import Final

from inference.frames import encode
from inference.messages import Wire

logger = logging.getLogger(__name__)

# A web process that reads this far behind is not coming back.
_MOST_UNSENT_BYTES: Final = 64 * 1024 * 1024


class Connection:
    """One web process."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.request_ids: set[str] = set()
        self.is_greeted = False  # it has said hello, in our protocol

    def send(self, message: Wire) -> None:
        """Send a message; one that cannot be sent ends the connection."""
        if self._writer.is_closing():
            return
        self._writer.write(encode(message))
        if self._writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            logger.error("a web process does not read its events; its connection is closed")
            self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection after what was sent."""
        self._writer.close()
