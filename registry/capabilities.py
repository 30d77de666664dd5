"""What a model can do, as `capabilities` of show and tags tells (contract/ollama.md 1.8).

Derived from the architecture and from which variables the template's actions use. Knows nothing
of how a template is executed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

# Token ids that a vocabulary needs to fill in: prefix, suffix and middle; first the newer names.
_FILL_KEYS: Final = (
    tuple(f"tokenizer.ggml.fim_{part}_token_id" for part in ("pre", "suf", "mid")),
    tuple(f"tokenizer.ggml.{part}_token_id" for part in ("prefix", "suffix", "middle")),
)
# An architecture that pools its hidden states says so in its metadata; old files do not.
_EMBEDDING_ARCHITECTURES: Final = re.compile(r".*bert.*|t5encoder|gemma-embedding")
_STRING_LITERAL: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`')
_VARIABLE: Final = r"\.{}\b"


def capabilities_of(
    architecture: str, metadata: Mapping[str, Any], template: str, *, has_projector: bool = False
) -> tuple[str, ...]:
    """Return the capabilities of a model, in the wire's order."""
    actions = "\n".join(_actions(template))

    def uses(variable: str) -> bool:
        return re.search(_VARIABLE.format(variable), actions) is not None

    is_embedding = f"{architecture}.pooling_type" in metadata or bool(
        _EMBEDDING_ARCHITECTURES.fullmatch(architecture)
    )
    found = {
        "completion": not is_embedding,
        "tools": uses("Tools"),
        "insert": uses("Suffix") or has_fill_tokens(metadata),
        "vision": has_projector or f"{architecture}.vision.block_count" in metadata,
        "embedding": is_embedding,
        "thinking": uses("Thinking"),
    }
    return tuple(name for name, is_there in found.items() if is_there)


def has_fill_tokens(metadata: Mapping[str, Any]) -> bool:
    """Whether the vocabulary has tokens of its own for filling in between prefix and suffix."""
    return any(all(key in metadata for key in keys) for keys in _FILL_KEYS)


def _actions(template: str) -> list[str]:
    """Return the template's actions without their string literals, comments left out."""
    parts = [part.partition("}}") for part in template.split("{{")[1:]]
    closed = [action for action, brace, _ in parts if brace]
    return [
        _STRING_LITERAL.sub('""', action)
        for action in closed
        if not action.removeprefix("-").lstrip().startswith("/*")
    ]
