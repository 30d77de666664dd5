"""Whether the disk has room for a file that is about to be written. Knows nothing of the file."""

import shutil
from pathlib import Path
from typing import Final

from registry.errors import StorageFull

# What the database, logs and other writers must still find.
_LEFT_FREE_BYTES: Final = 256 * 1024**2


def require_free_bytes(folder: Path, needed: int) -> None:
    """Raise StorageFull where a file of so many bytes would fill the folder's disk."""
    free = shutil.disk_usage(folder).free - _LEFT_FREE_BYTES
    if needed > free:
        raise StorageFull(
            f"not enough disk space: {needed} bytes are needed, {max(0, free)} are free"
        )
