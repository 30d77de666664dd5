"""Fields of `/v1/chat/completions` that change no answer here, and those that are refused.

OpenAI's own service needs the first for its accounts, caches and statistics: their types are
checked, and that is all. The others ask for something that this server does not do, so whoever
sends them is told. Knows no field that works, no model and no answer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from inference.api.schemas import not_supported
from ollamasite.errors import BadRequest

# Name → the values that ask for nothing; null and an empty text never do.
_ONLY: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "service_tier": ("", "auto", "default"),
        "verbosity": ("", "medium"),
        "modalities": ([], ["text"]),
        "prompt_cache_retention": ("", "in_memory", "in-memory", "24h"),
    }
)
# Name → what to do instead.
_REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "functions": 'use "tools"',
        "function_call": 'use "tool_choice"',
        "audio": "",
        "web_search_options": "",
        "moderation": "",
    }
)


class PromptCacheOptions(msgspec.Struct):
    """`prompt_cache_options`: what has been computed is kept as long as there is room for it."""

    mode: str = ""
    ttl: str = ""


class Prediction(msgspec.Struct):
    """`prediction`: a text that the answer may be alike."""

    type: str = ""
    content: Any = None


class NotedFields(msgspec.Struct):
    """Base of the body: the fields that are taken without effect, and those that are refused."""

    user: str = ""
    safety_identifier: str = ""
    metadata: dict[str, str] = {}
    prompt_cache_key: str = ""
    prompt_cache_retention: str = ""
    prompt_cache_options: PromptCacheOptions = msgspec.field(default_factory=PromptCacheOptions)
    prediction: Prediction | None = None
    service_tier: str = ""
    store: bool = False
    verbosity: str = ""
    modalities: list[str] = []
    audio: Any = None
    web_search_options: Any = None
    moderation: Any = None
    functions: Any = None
    function_call: Any = None

    def check_noted(self) -> None:
        """Refuse by name what asks for something that is not done here. Raises BadRequest."""
        for name, instead in _REFUSED.items():
            if getattr(self, name) is not None:
                raise _refusal(name, instead)
        for name, values in _ONLY.items():
            if getattr(self, name) not in values:
                shown = " or ".join(msgspec.json.encode(value).decode() for value in values[1:])
                raise BadRequest(f"{name} must be {shown}, or absent", param=name)
        if self.store:
            raise _refusal("store", "/v1/responses keeps what it is to keep")
        if self.prediction is not None and not _is_prediction(self.prediction):
            raise BadRequest(
                'prediction must have the type "content" and a text or a list of texts as content',
                param="prediction",
            )


def _is_prediction(prediction: Prediction) -> bool:
    return prediction.type == "content" and isinstance(prediction.content, str | list)


def _refusal(name: str, instead: str) -> BadRequest:
    error = not_supported(name)
    return BadRequest(f"{error.message}: {instead}", param=name) if instead else error
