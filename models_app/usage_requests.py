"""One request of the ledger as its page tells it: where its time went, and how to ask it again.

Pure; knows no table and no template.
"""

import json
import pprint
import shlex
from dataclasses import dataclass
from typing import Any, Final

from models_app.usage import OTHER, RequestRecord

_PERCENT: Final = 100
_PLACE: Final = "YOUR PROMPT: IT IS NOT KEPT"
# What a request says where it has a prompt, by its kind.
_ASKED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "chat": ("chat", {"messages": [{"role": "user", "content": _PLACE}]}),
    "generate": ("generate", {"prompt": _PLACE}),
    "embed": ("embed", {"input": _PLACE}),
}
# Of how many answers were wanted at once; no dialect of ours takes it as an option.
_NO_OPTIONS: Final = frozenset({"choices"})
_WIDTH: Final = 72


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the time that a request took; `x` and `width` are percent of all of it."""

    name: str
    label: str
    us: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """How to ask the same again, as a command and as Python."""

    curl: str
    python: str
    is_chat: bool


def parts_of(record: RequestRecord) -> list[Part]:
    """Return where the time went; what is left over is the way to and from the engine."""
    whole_us = max(took_us(record), 1)
    named = [
        ("queue", "Waiting in the queue", record.queue_us),
        ("load", "Loading the model", record.load_us),
        ("prefill", "Reading the prompt", record.prefill_us),
        ("decode", "Writing the answer", record.decode_us),
    ]
    known_us = sum(us for _, _, us in named)
    whole_us = max(whole_us, known_us)
    named.append(("rest", "All else", whole_us - known_us))
    found, at_us = [], 0
    for name, label, us in named:
        x, width = (round(_PERCENT * part / whole_us, 3) for part in (at_us, us))
        found.append(Part(name, label, us, x, width))
        at_us += us
    return found


def took_us(record: RequestRecord) -> int:
    """Return how long it took from its beginning to its end."""
    took = record.ended_at - record.began_at
    return (took.days * 86_400 + took.seconds) * 1_000_000 + took.microseconds


def tokens_per_s(record: RequestRecord) -> float | None:
    """Return how fast the answer was written; None: there was none, or its time is not known."""
    if not record.tokens_out or not record.decode_us:
        return None
    return round(record.tokens_out * 1_000_000 / record.decode_us, 1)


def repeat_of(record: RequestRecord, base_url: str) -> Repeat | None:
    """Return how to ask it again; None: it asked nothing, or its model is not told."""
    asked = _ASKED.get(record.kind)
    if asked is None or record.model == OTHER:
        return None
    path, prompt = asked
    options = {k: v for k, v in sorted(record.parameters.items()) if k not in _NO_OPTIONS}
    if record.seed is not None:
        options["seed"] = record.seed
    body: dict[str, Any] = {"model": record.model, **prompt}
    if options:
        body["options"] = options
    return Repeat(_curl(base_url, path, body), _python(base_url, path, body), path == "chat")


def _curl(base_url: str, path: str, body: dict[str, Any]) -> str:
    text = json.dumps(body if path == "embed" else body | {"stream": False}, indent=2)
    return (
        f"curl {shlex.quote(f'{base_url}/api/{path}')} \\\n"
        '  -H "Authorization: Bearer $OLLAMASITE_API_KEY" \\\n'
        f"  -d {shlex.quote(text)}"
    )


def _python(base_url: str, path: str, body: dict[str, Any]) -> str:
    lines = []
    for name, value in body.items():
        text = pprint.pformat(value, width=_WIDTH, sort_dicts=False)
        lines.append(f"    {name}={text},".replace("\n", "\n    "))
    told = {"chat": "answer.message.content", "generate": "answer.response"}
    arguments = "\n".join(lines)
    return (
        "import os\n"
        "from ollama import Client\n\n"
        'key = os.environ["OLLAMASITE_API_KEY"]\n'
        "client = Client(\n"
        f"    host={base_url!r},\n"
        '    headers={"Authorization": f"Bearer {key}"},\n'
        ")\n"
        f"answer = client.{path}(\n{arguments}\n)\n"
        f"print({told.get(path, 'answer.embeddings')})"
    )
