"""The reader of calls that look like Python's.

They are taken apart by Python's own grammar and never run. Knows nothing of what stands around a
call.
"""

import ast
import json
import re
import warnings
from typing import Any, Final

from inference.output.reading import MAX_HEAD, Outcome, Reader, Start
from inference.output.tools import Call, Toolbox, decode

_HEAD: Final = re.compile(r"([A-Za-z_][\w.-]*)\(")
_BEGUN: Final = re.compile(r"[A-Za-z_][\w.-]*")
_MARK: Final = re.compile(r"[()\[\]{}'\"\\]")
_JSON_WORDS: Final = {"true": True, "false": False, "null": None}


def begin_python(text: str, start: int, tools: Toolbox) -> Reader | Start:
    """Return a reader if a known tool's name and a bracket stand at `start`."""
    head = _HEAD.match(text, start, start + MAX_HEAD)
    if head:
        return _PythonReader(start, head, tools) if head[1] in tools else Start.NO
    begun = _BEGUN.match(text, start)
    is_open = begun is not None and begun.end() == len(text) < start + MAX_HEAD
    return Start.MAYBE if is_open else Start.NO


class _PythonReader:
    """`name(key=literal, …)`."""

    def __init__(self, start: int, head: re.Match[str], tools: Toolbox) -> None:
        self._start = start
        self._name = head[1]
        self._arguments = head.end()
        self._position = head.end()
        self._tools = tools
        self._depth = 1
        self._quote = ""

    def read(self, text: str) -> Outcome | None:
        while found := _MARK.search(text, self._position):
            mark = found.group()
            if mark == "\\" and found.end() == len(text):
                self._position = found.start()
                return None
            self._position = found.end() + (mark == "\\")
            self._take(mark)
            if not self._depth:
                inner = text[self._arguments : found.start()]
                return Outcome(found.end(), self._call(inner))
        self._position = len(text)
        return None

    def finish(self, text: str) -> Call | None:
        """Return None: a call in Python is not repaired."""
        return None

    def _take(self, mark: str) -> None:
        if self._quote:
            self._quote = "" if mark == self._quote else self._quote
        elif mark in "'\"":
            self._quote = mark
        elif mark in "([{":
            self._depth += 1
        elif mark != "\\":
            self._depth -= 1

    def _call(self, inner: str) -> Call | None:
        arguments = _arguments_of(inner)
        return None if arguments is None else self._tools.named_call(self._name, arguments)


def _arguments_of(inner: str) -> dict[str, Any] | None:
    """Return keyword arguments as JSON has them, None if they are not just literals."""
    try:
        with warnings.catch_warnings():  # an unknown escape in a string is not worth a word
            warnings.simplefilter("ignore")
            call = ast.parse(f"f({inner}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        values = {str(each.arg): _value(each.value) for each in call.keywords if each.arg}
        arguments = decode(json.dumps(values))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return arguments if len(values) == len(call.keywords) else None


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name) and node.id in _JSON_WORDS:
        return _JSON_WORDS[node.id]
    return ast.literal_eval(node)
