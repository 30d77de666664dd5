"""What a model can do, as `capabilities` of show and tags tells (contract/ollama.md 1.8).

Derived from the architecture and from which variables the template's actions use. Knows nothing
of how a template is executed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

# An architecture that pools its hidden states says so in its metadata; old files do not.
_EMBEDDING_ARCHITECTURES: Final = re.compile(r".*bert.*|t5encoder|gemma-embedding")
_STRING_LITERAL: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`')
_BY_VARIABLE: Final = (("tools", "Tools"), ("insert", "Suffix"), ("thinking", "Thinking"))


def capabilities_of(
    architecture: str, metadata: Mapping[str, Any], template: str
) -> tuple[str, ...]:
    """Return the capabilities of a model, in the wire's order."""
    is_embedding = f"{architecture}.pooling_type" in metadata or bool(
        _EMBEDDING_ARCHITECTURES.fullmatch(architecture)
    )
    first = "embedding" if is_embedding else "completion"
    actions = "\n".join(_actions(template))
    found = (name for name, variable in _BY_VARIABLE if re.search(rf"\.{variable}\b", actions))
    return (first, *found)


def _actions(template: str) -> list[str]:
    """Return the template's actions without their string literals, comments left out."""
    parts = [part.partition("}}") for part in template.split("{{")[1:]]
    closed = [action for action, brace, _ in parts if brace]
    return [
        _STRING_LITERAL.sub('""', action)
        for action in closed
        if not action.removeprefix("-").lstrip().startswith("/*")
    ]
