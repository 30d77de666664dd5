"""How many threads are fastest for which weights on this machine, remembered from load to load.

A JSON file in the node's state directory, replaced as a whole; a lost or damaged one costs a new
measurement. Knows no runner.
"""

import json
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

logger = logging.getLogger(__name__)

_FILE_NAME: Final = "threads.json"


class _Known(msgspec.Struct, frozen=True):
    """What was measured, and on how many processors."""

    threads: int
    cpus: int


class ThreadMemo:
    """Threads by digest of the weights. Without a directory it remembers until it is dropped."""

    def __init__(self, state_dir: Path | None, *, cpus: int) -> None:
        self._path = state_dir / _FILE_NAME if state_dir else None
        self._cpus = cpus
        self._known = self._read()

    def recall(self, weights: str) -> int:
        """Return the measured thread count, or 0: not measured with this many processors."""
        known = self._known.get(weights)
        return known.threads if known is not None and known.cpus == self._cpus else 0

    def remember(self, weights: str, threads: int) -> None:
        """Keep a measured thread count."""
        self._known[weights] = _Known(threads=threads, cpus=self._cpus)
        if self._path is None:
            return
        text = json.dumps(msgspec.to_builtins(self._known), indent=1, sort_keys=True)
        new = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(text + "\n")
            new.replace(self._path)
        except OSError as error:
            logger.warning("the thread count of %s is not kept: %s", weights[:12], error)

    def _read(self) -> dict[str, _Known]:
        if self._path is None:
            return {}
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Known])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("%s is not used: %s", self._path, error)
            return {}
