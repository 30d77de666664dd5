"""How the drivers of Python clients are spoken to, line by line, for as long as a module of tests.

Each line of standard input is {"host", "key", "model", "steps": [names]} and is answered by one
line: the steps' results. A step that fails answers with its error as text. Knows no client.
"""

import json
import sys
from collections.abc import Callable
from typing import Any


def answer_lines(steps_of: Callable[[str, str, str], object]) -> None:
    """Do the steps that each line asks for, methods of what `steps_of` makes of a place."""
    for line in sys.stdin:
        asked = json.loads(line)
        steps = steps_of(asked["host"], asked["key"], asked["model"])
        found = [_result(getattr(steps, name)) for name in asked["steps"]]
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()


def _result(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except Exception as error:  # noqa: BLE001 # the next test needs this process
        return f"{type(error).__name__}: {error}"
