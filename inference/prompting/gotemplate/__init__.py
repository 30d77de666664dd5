"""An interpreter of Go's text/template language, with budgets.

`parse` turns a source into a `Template`, `execute` renders it. Written from the language's
documentation (https://pkg.go.dev/text/template) and compared with real Go by golden cases.
Knows nothing of chats, messages or Ollama: those come as data and functions from outside.
"""

from inference.prompting.gotemplate.interpreter import execute
from inference.prompting.gotemplate.nodes import Template
from inference.prompting.gotemplate.parser import parse
from inference.prompting.gotemplate.values import MISSING, Function, Stringer, Struct
from inference.prompting.limits import Budget

__all__ = [
    "MISSING",
    "Budget",
    "Function",
    "Stringer",
    "Struct",
    "Template",
    "execute",
    "parse",
]
