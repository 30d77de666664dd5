"""Where the site that `ollamasite serve` runs can be reached, for commands that are run beside it.

`serve` leaves it in the data directory, because its --host and --port are not in their environment.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple

from django.conf import settings

from ollamasite.start_checks import is_held

LOCK: Final = "serve.lock"
_NAME: Final = "address.json"


class Address(NamedTuple):
    """What web listens on."""

    host: str
    port: int

    def leave(self) -> None:
        """Have others find it. Raises OSError."""
        draft = _path().with_suffix(".new")
        draft.write_text(json.dumps(self))
        draft.replace(_path())


def serve_runs() -> bool:
    """Whether `ollamasite serve` holds this data directory."""
    return is_held(Path(settings.DATA_DIR) / LOCK)


def address() -> Address:
    """Return where this data directory's site listens; what settings say, unless `serve` knows."""
    if not serve_runs():
        return Address(settings.BIND_HOST, settings.BIND_PORT)
    try:
        host, port = json.loads(_path().read_text())
    except (OSError, TypeError, ValueError):
        return Address(settings.BIND_HOST, settings.BIND_PORT)
    return Address(host, port)


def _path() -> Path:
    return Path(settings.RUN_DIR) / _NAME
