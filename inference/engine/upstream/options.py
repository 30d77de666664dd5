"""Which options each kind of engine knows, and what it calls them.

What an engine does not know is left out: docs/ops.md has this table for people. Sources: vLLM's
"OpenAI-Compatible Server", SGLang's "Sampling Parameters" and llama.cpp's tools/server/README.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inference.messages import Sampling

_OPENAI: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "num_predict": "max_tokens",
}
_SERVERS: Final = {
    **_OPENAI,
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}
_LLAMA_CPP: Final = {
    **_OPENAI,
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """What one kind of engine understands beyond OpenAI's API.

    `sampling`: our option → its own. `usage`: how it is asked to tell, with every piece if it can,
    what it has counted. `has_template_arguments`: a request may set variables of its chat template.
    `goes_on`: it has to be told to go on with an answer that was begun for it.
    """

    sampling: Mapping[str, str]
    all_top_k: int | None = None  # what it calls a top_k of 0
    usage: Mapping[str, Any]
    has_template_arguments: bool = True
    goes_on: bool = False
    schema_field: str = "response_format"  # of a plain completion; empty: it has none
    has_suffix: bool = False
    sums_usage: bool = False  # of several choices it tells each one's


_WITH_USAGE: Final[Mapping[str, Any]] = {"stream_options": {"include_usage": True}}
_WITH_EACH: Final[Mapping[str, Any]] = {
    "stream_options": {"include_usage": True, "continuous_usage_stats": True}
}
KINDS: Final[Mapping[str, EngineKind]] = {
    "vllm": EngineKind(sampling=_SERVERS, all_top_k=-1, usage=_WITH_EACH, goes_on=True),
    "sglang": EngineKind(
        sampling=_SERVERS, all_top_k=-1, usage=_WITH_EACH, goes_on=True, schema_field="json_schema"
    ),
    "llama.cpp": EngineKind(
        sampling=_LLAMA_CPP,
        all_top_k=0,
        usage={**_WITH_USAGE, "timings_per_token": True},
        schema_field="json_schema",
        sums_usage=True,
    ),
    "openai": EngineKind(
        sampling=_OPENAI,
        usage=_WITH_USAGE,
        has_template_arguments=False,
        schema_field="",
        has_suffix=True,
    ),
}


def kind_of(name: str) -> EngineKind:
    """Return what is known of a kind; of one that nobody knows, what OpenAI's API has."""
    return KINDS.get(name, KINDS["openai"])


def sampling_fields(kind: EngineKind, sampling: Sampling, asked: tuple[str, ...]) -> dict[str, Any]:
    """Return the body's fields for what somebody has asked for; the rest is the engine's choice."""
    fields: dict[str, Any] = {}
    for name, theirs in kind.sampling.items():
        value = getattr(sampling, name)
        if name in asked and value is not None:
            fields[theirs] = value
    if fields.get("top_k") == 0:
        fields["top_k"] = kind.all_top_k
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    return fields
