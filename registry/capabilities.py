"""What a model can do, as `capabilities` of show and tags tells (contract/ollama.md 1.8).

Derived from the architecture, the template in use and the name of the parser for its answers. Knows
nothing of how a template is executed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from registry.template_choice import choose_template, go_traits

_ORDER: Final = ("completion", "tools", "insert", "vision", "embedding", "thinking")
# Token ids that a vocabulary needs to fill in: prefix, suffix and middle; first the newer names.
_FILL_KEYS: Final = (
    tuple(f"tokenizer.ggml.fim_{part}_token_id" for part in ("pre", "suf", "mid")),
    tuple(f"tokenizer.ggml.{part}_token_id" for part in ("prefix", "suffix", "middle")),
)
# An architecture that pools its hidden states says so in its metadata; old files do not.
_EMBEDDING_ARCHITECTURES: Final = re.compile(r".*bert.*|t5encoder|gemma-embedding")
# What the parsers that a manifest may name take out of an answer.
_TOOLS: Final = frozenset({"tools"})
_THINKING: Final = frozenset({"thinking"})
_PARSERS: Final[Mapping[str, frozenset[str]]] = {
    "cogito": _TOOLS | _THINKING,
    "deepseek3": _TOOLS | _THINKING,
    "functiongemma": _TOOLS,
    "gemma4": _TOOLS | _THINKING,
    "glm-4.6": _TOOLS | _THINKING,
    "glm-4.7": _TOOLS | _THINKING,
    "harmony": _TOOLS | _THINKING,
    "laguna": _TOOLS | _THINKING,
    "lfm2": _TOOLS,
    "lfm2-thinking": _TOOLS | _THINKING,
    "ministral": _TOOLS,
    "nemotron-3-nano": _TOOLS | _THINKING,
    "olmo3": _TOOLS,
    "olmo3-think": _THINKING,
    "qwen3": _TOOLS,
    "qwen3-coder": _TOOLS,
    "qwen3-thinking": _TOOLS | _THINKING,
    "qwen3-vl-instruct": _TOOLS,
    "qwen3-vl-thinking": _TOOLS | _THINKING,
    "qwen3.5": _TOOLS | _THINKING,
}


def capabilities_of(
    architecture: str,
    metadata: Mapping[str, Any],
    template: str,
    *,
    has_projector: bool = False,
    parser: str = "",
    renderer: str = "",
) -> tuple[str, ...]:
    """Return the capabilities of a model, in the wire's order.

    `template` is the Go template of its manifest; the Jinja one is in the GGUF's metadata. An
    embedding model neither answers nor thinks.
    """
    traits = choose_template(template, metadata, renderer=renderer).traits
    is_embedding = f"{architecture}.pooling_type" in metadata or bool(
        _EMBEDDING_ARCHITECTURES.fullmatch(architecture)
    )
    found = {
        "completion": not is_embedding,
        "tools": traits.has_tools,
        "insert": go_traits(template).has_suffix or has_fill_tokens(metadata),
        "vision": has_projector or f"{architecture}.vision.block_count" in metadata,
        "embedding": is_embedding,
        "thinking": traits.has_thinking,
    }
    return with_parser((name for name, is_there in found.items() if is_there), parser)


def with_parser(capabilities: Iterable[str], parser: str) -> tuple[str, ...]:
    """Return capabilities with those that a named parser adds, in the wire's order."""
    found = {*capabilities, *_PARSERS.get(parser, ())}
    return tuple(name for name in _ORDER if name in found)


def has_fill_tokens(metadata: Mapping[str, Any]) -> bool:
    """Whether the vocabulary has tokens of its own for filling in between prefix and suffix."""
    return any(all(key in metadata for key in keys) for keys in _FILL_KEYS)
