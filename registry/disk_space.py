"""Whether the disk has room for a file that is about to be written. Knows nothing of the file."""

import shutil
from pathlib import Path
from typing import Final

from registry.errors import StorageFull

# What the database, logs and other writers must still find.
_LEFT_FREE_BYTES: Final = 256 * 1024**2
# A disk with so much left, in all or of it, is not nearly full.
_ENOUGH_BYTES: Final = 20_000_000_000
_ENOUGH_SHARE: Final = 0.1


def require_free_bytes(folder: Path, needed: int) -> None:
    """Raise StorageFull where a file of so many bytes would fill the folder's disk."""
    free = shutil.disk_usage(folder).free - _LEFT_FREE_BYTES
    if needed > free:
        raise StorageFull(
            f"not enough disk space: {needed} bytes are needed, {max(0, free)} are free"
        )


def scarce_bytes(folder: Path) -> int | None:
    """Return what is free on a folder's disk where that is little for models; None: enough is."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:  # no model has come yet
        return None
    is_scarce = found.free < min(_ENOUGH_BYTES, found.total * _ENOUGH_SHARE)
    return found.free if is_scarce else None
