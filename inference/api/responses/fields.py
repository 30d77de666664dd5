"""Fields of `/v1/responses` that are objects of their own, and checks of their values.

What is not here is refused by name. Knows no whole body, no model and no answer.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from inference.api.formats import ANY_OBJECT, read_format
from inference.api.schemas import not_supported
from ollamasite.errors import BadRequest

LOGPROBS: Final = "message.output_text.logprobs"
ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"
# What the others add belongs to tools that are not here, or is always there (image URLs).
_INCLUDABLE: Final = frozenset(
    {
        LOGPROBS,
        ENCRYPTED_REASONING,
        "message.input_image.image_url",
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    }
)
_MAX_PAIRS: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512


class Reasoning(msgspec.Struct):
    """`reasoning`. A summary is always given, and leaves nothing out."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None

    def check(self) -> None:
        """Raise BadRequest for what is not here."""
        kinds = {"auto", "concise", "detailed"}
        check_choice("reasoning.summary", self.summary, kinds)
        check_choice("reasoning.generate_summary", self.generate_summary, kinds)
        check_choice("reasoning.context", self.context, {"auto", "all_turns"})
        check_choice("reasoning.mode", self.mode, {"standard"})


class TextFormat(msgspec.Struct, omit_defaults=True):
    """`text.format`; whether a schema is strict makes no difference."""

    type: str = ""
    name: str | None = None
    description: str | None = None
    schema: Any = None
    strict: bool | None = None

    def to_schema(self) -> str:
        """Return the JSON text of a schema, empty for none. Raises BadRequest."""
        match self.type:
            case "" | "text":
                return ""
            case "json_object":
                return ANY_OBJECT
            case "json_schema":
                if not isinstance(self.schema, dict):
                    raise BadRequest(
                        "text.format.schema must be a JSON Schema object",
                        param="text.format.schema",
                    )
                return read_format(self.schema)
        raise BadRequest(
            'text.format.type must be "text", "json_object" or "json_schema"',
            param="text.format.type",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the format as the answer repeats it."""
        return {**msgspec.to_builtins(self), "type": self.type or "text"}


class TextConfig(msgspec.Struct):
    """`text`."""

    format: TextFormat = msgspec.field(default_factory=TextFormat)
    verbosity: str | None = None

    def check(self) -> None:
        """Raise BadRequest for what is not here; the format is checked where it is read."""
        check_choice("text.verbosity", self.verbosity, {"medium"})


class CacheOptions(msgspec.Struct):
    """`prompt_cache_options`: prompts are always cached, so there is little to say."""

    mode: str | None = None
    ttl: str | None = None
    prewarm: bool = False
    comparison_response_id: str | None = None

    def check(self) -> None:
        """Raise BadRequest for what is not here."""
        check_choice("prompt_cache_options.mode", self.mode, {"implicit", "explicit"})
        check_choice("prompt_cache_options.ttl", self.ttl, {"30m", "12h"})
        if self.prewarm:
            raise not_supported("prompt_cache_options.prewarm")
        if self.comparison_response_id is not None:
            raise not_supported("prompt_cache_options.comparison_response_id")


class ImageOptions(msgspec.Struct):
    """`image`."""

    context_compression: str | None = None

    def check(self) -> None:
        """Raise BadRequest for what is not here."""
        kinds = {"auto", "disabled"}
        check_choice("image.context_compression", self.context_compression, kinds)


def check_include(names: Collection[str]) -> None:
    """Raise BadRequest for a name that stands for nothing."""
    for name in names:
        check_choice("include", name, _INCLUDABLE)


def check_choice(field: str, value: str | None, allowed: Collection[str]) -> None:
    """Raise BadRequest for a value that is not among those which mean something here."""
    if value is not None and value not in allowed:
        words = ", ".join(f'"{name}"' for name in sorted(allowed))
        raise BadRequest(f"{field}: this server only knows {words}", param=field)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise BadRequest for pairs that OpenAI would not take."""
    is_fine = len(metadata) <= _MAX_PAIRS and all(
        len(key) <= _MAX_KEY and isinstance(value, str) and len(value) <= _MAX_VALUE
        for key, value in metadata.items()
    )
    if not is_fine:
        raise BadRequest(
            f"metadata must have at most {_MAX_PAIRS} pairs of strings: keys of at most "
            f"{_MAX_KEY} characters, values of at most {_MAX_VALUE}",
            param="metadata",
        )
