"""Templates that are known by sight: what a GGUF file's Jinja template says in Go's language.

A model made from such a file gets the Go template and the stop strings that go with it, as with
Ollama (contract/ollama.md 4.5, 11). Pure text; renders nothing and knows no model.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A template with its name and the strings at which an answer ends."""

    name: str
    go_template: str
    stop: tuple[str, ...]


CHATML: Final = KnownTemplate(
    "chatml",
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n",
    ("<|im_start|>", "<|im_end|>"),
)
# Longer ones do more than to put every message between two tokens.
_MOST_CHARACTERS: Final = 700
_CONTROL: Final = re.compile(r"<\|.*?\|>")
_MORE: Final = re.compile(
    r"tool|think|reason|\bimage|\bmacro\b|\bset\b|content\[|is (?:string|iterable)"
)


def known_template(jinja_template: str) -> KnownTemplate | None:
    """Return the known template that says the same as a Jinja template, or None.

    A system text that the Jinja template adds by itself is not looked at, as in Ollama.
    """
    if len(jinja_template) > _MOST_CHARACTERS or _MORE.search(jinja_template):
        return None
    is_chatml = set(_CONTROL.findall(jinja_template)) == set(CHATML.stop)
    return CHATML if is_chatml and "message" in jinja_template else None
