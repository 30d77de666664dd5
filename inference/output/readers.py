"""Which reader reads a call of a given shape.

Knows nothing of what stands around a call.
"""

from inference.output.json_readers import JsonReader, NamedReader
from inference.output.python_reader import begin_python
from inference.output.reading import Reader, Start, after_opening
from inference.output.syntax import CallShape, JsonCall, NamedCall, PythonCall, TaggedCall
from inference.output.tagged_reader import begin_tagged
from inference.output.tools import Toolbox


def begin(shape: CallShape, text: str, start: int, tools: Toolbox) -> Reader | Start:
    """Return a reader if a call of this shape begins at `start`."""
    match shape:
        case JsonCall():
            return JsonReader(start, tools) if text.startswith("{", start) else Start.NO
        case NamedCall():
            foreign = after_opening(text, start, shape.opening, "{[")
            return foreign or NamedReader(shape, start, tools)
        case TaggedCall():
            return begin_tagged(shape, text, start, tools)
        case PythonCall():
            return begin_python(text, start, tools)
