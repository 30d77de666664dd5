"""`ollamasite COMMAND …` in a process that can be asked how much it holds.

    python -m tests.load.watched FILE [--runner RATE TOGETHER LENGTH] COMMAND …

On SIGUSR2 it writes what it holds to FILE, as JSON: objects that the garbage collector knows (after
collecting, without those of sqlite3), tasks, threads, open files, and how often it has asked the
database so far. With `--runner` its runners are scripted; everything else is what it always is.
"""

import asyncio
import collections
import gc
import itertools
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

from inference.engine import runner_process
from ollamasite.cli import main

# A connection of Python's sqlite3 forgets what its cursors were only after every 200.
_OF_SQLITE = {"ReferenceType", "Statement"}

_queries = itertools.count()


def _count(execute: Any, *asked: Any) -> Any:
    next(_queries)
    return execute(*asked)


def _count_queries(connection: Any, **_: Any) -> None:
    if _count not in connection.execute_wrappers:  # it has been connected before
        connection.execute_wrappers.append(_count)


def _tell(file: Path) -> None:
    gc.collect()
    objects = gc.get_objects()
    kinds = collections.Counter(type(one).__qualname__ for one in objects)
    told = {
        "objects": sum(type(one).__qualname__ not in _OF_SQLITE for one in objects),
        # By its type alone: isinstance would have Django's lazy objects made.
        "tasks": sum(issubclass(type(one), asyncio.Task) and not one.done() for one in objects),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "kinds": dict(kinds.most_common(40)),
        "queries": next(_queries),
    }
    del objects
    part = file.with_suffix(".part")
    part.write_text(json.dumps(told))
    part.rename(file)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    command = sys.argv[2:]
    if command[0] == "--runner":
        runner = (sys.executable, "-m", "tests.load.scripted_runner", *command[1:4])
        vars(runner_process)["_COMMAND"] = runner
        command = command[4:]
    connection_created.connect(_count_queries)
    signal.signal(signal.SIGUSR2, lambda *_: _tell(file))
    sys.argv = ["ollamasite", *command]
    main()
