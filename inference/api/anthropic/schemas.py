"""The bodies of `/v1/messages` and `/v1/messages/count_tokens` → internal requests.

Contract/ollama.md 3.8 and the types of Anthropic's Python SDK: every field of them works or is
refused by name; `options` and `keep_alive` come as extra fields. Caching is automatic, so
`cache_control` asks for what is done anyway; `context_management` asks for old turns to be left
out of long prompts, and none are but where the prompt would not fit. Knows no model and no answer.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from inference.api.anthropic.messages import image_urls, read_messages, read_system
from inference.api.anthropic.tools import ToolChoice, read_tools
from inference.api.formats import read_format
from inference.api.keep_alive import read_keep_alive
from inference.api.openai.fields import NOTHING_FETCHED
from inference.requests import ChatRequest
from ollamasite.errors import BadRequest

# Taken note of: they change no answer.
NOTED: Final = frozenset(
    {"cache_control", "context_management", "metadata", "service_tier", "speed"}
)
REFUSED: Final = frozenset(
    {
        *("billing_policy", "compaction", "container", "diagnostics"),
        *("fallback_credit_token", "fallbacks", "inference_geo", "mcp_servers"),
        *("thread", "user_profile_id", "workspace_id"),
    }
)
_ABSENT: Final[tuple[Any, ...]] = (None, "", [], {})
_EFFORTS: Final = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",  # contract 3.8
    "max": "max",
}
_LEAST_BUDGET_TOKENS: Final = 1024
# Most tokens of thinking that still ask for little, and for a medium amount.
_LOW_BUDGET_TOKENS: Final = 4096
_MEDIUM_BUDGET_TOKENS: Final = 16_384


class Metadata(msgspec.Struct):
    """`metadata`."""

    user_id: str = ""


class Thinking(msgspec.Struct):
    """`thinking`; an empty type is an absent one."""

    type: str = ""
    budget_tokens: int | None = None
    display: str = ""


class OutputFormat(msgspec.Struct):
    """`output_config.format`."""

    type: str = ""
    schema: Any = None


class OutputConfig(msgspec.Struct):
    """`output_config`."""

    effort: str = ""
    format: OutputFormat = msgspec.field(default_factory=OutputFormat)


class _Refused(msgspec.Struct):
    """Fields whose feature is not here; empty ones ask for nothing."""

    billing_policy: Any = None
    compaction: Any = None
    container: Any = None
    diagnostics: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    thread: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None


class _Conversation(_Refused):
    """What both routes take."""

    model: str = ""
    messages: list[Any] = []
    system: Any = None
    tools: list[Any] = []
    tool_choice: ToolChoice = msgspec.field(default_factory=ToolChoice)
    thinking: Thinking = msgspec.field(default_factory=Thinking)
    output_config: OutputConfig = msgspec.field(default_factory=OutputConfig)
    output_format: OutputFormat = msgspec.field(default_factory=OutputFormat)  # its older place
    cache_control: Any = None
    context_management: Any = None
    speed: str = ""
    options: dict[str, Any] = {}
    keep_alive: Any = None

    @property
    def image_urls(self) -> list[str]:
        """The web addresses of images that have to be fetched before."""
        return image_urls(self.messages)

    @property
    def hides_thinking(self) -> bool:
        """Whether the answer is to tell that the model thought, and not what."""
        return self.thinking.display == "omitted"

    def conversation(self, fetched: Mapping[str, bytes]) -> dict[str, Any]:
        """Return what a ChatRequest of either route is made with.

        Raises BadRequest, InvalidBody, InvalidFormat.
        """
        for name in sorted(REFUSED):
            if getattr(self, name) not in _ABSENT:
                raise BadRequest(f'"{name}" is not supported by this server', param=name)
        if not self.model:
            raise BadRequest("model: field required", param="model")
        _check_one_of("speed", self.speed, ("", "standard"))
        chosen = read_tools(self.tools, self.tool_choice)
        return {
            "model": self.model,
            "messages": (*read_system(self.system), *read_messages(self.messages, fetched)),
            "tools": chosen.tools,
            "forced_tools": chosen.forced_tools,
            "most_calls": chosen.most_calls,
            "think": read_thinking(self.thinking, self.output_config.effort),
            "thinks_if_able": True,
            "json_schema": (
                _read_schema(self.output_config.format, "output_config.format")
                or _read_schema(self.output_format, "output_format")
            ),
            "keep_alive": read_keep_alive(self.keep_alive),
        }


class MessagesBody(_Conversation):
    """The body of `/v1/messages`."""

    max_tokens: int | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    service_tier: str = ""

    def to_request(self, fetched: Mapping[str, bytes] = NOTHING_FETCHED) -> ChatRequest:
        """Return the internal request. Raises BadRequest, InvalidBody, InvalidFormat.

        `fetched` has the images of `image_urls`.
        """
        if self.max_tokens is None or self.max_tokens <= 0:
            raise BadRequest(
                "max_tokens: is required and must be greater than 0", param="max_tokens"
            )
        _check_one_of("service_tier", self.service_tier, ("", "auto", "standard_only"))
        if "" in self.stop_sequences:
            raise BadRequest("stop_sequences: none may be empty", param="stop_sequences")
        budget = self.thinking.budget_tokens
        if self.thinking.type == "enabled" and budget is not None and budget >= self.max_tokens:
            raise BadRequest(
                "thinking.budget_tokens: must be less than max_tokens", param="thinking"
            )
        return ChatRequest(**self.conversation(fetched), options=self._options())

    def _options(self) -> dict[str, Any]:
        # Absent ones are the model's own here, not 1.0 (contract 3.8).
        given = {
            "num_predict": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": self.stop_sequences or None,
        }
        return self.options | {name: value for name, value in given.items() if value is not None}


class CountTokensBody(_Conversation):
    """The body of `/v1/messages/count_tokens`."""

    def to_request(self, fetched: Mapping[str, bytes] = NOTHING_FETCHED) -> ChatRequest:
        """Return a request for the prompt alone, counted and uncut. Raises as MessagesBody."""
        return ChatRequest(
            **self.conversation(fetched),
            options=self.options,
            renders_only=True,
            counts_tokens=True,
            truncate=False,
        )


def read_thinking(thinking: Thinking, effort: str) -> bool | str | None:
    """Return whether and how much to think; None: as the model does. Raises BadRequest.

    A budget of tokens says how much where `effort` does not.
    """
    _check_one_of("thinking.display", thinking.display, ("", "summarized", "omitted"))
    if effort and effort not in _EFFORTS:
        choices = ", ".join(f'"{name}"' for name in _EFFORTS)
        raise BadRequest(f"output_config.effort: must be one of {choices}", param="output_config")
    level = _EFFORTS.get(effort)
    match thinking.type:
        case "":
            return level
        case "disabled":
            return False
        case "adaptive":
            return level or True
        case "enabled":
            by_budget = _level_of_budget(thinking.budget_tokens)
            return level or by_budget
    raise BadRequest(
        f'thinking.type: "{thinking.type}" is not supported by this server '
        '(must be one of "enabled", "disabled", "adaptive")',
        param="thinking",
    )


def _level_of_budget(budget_tokens: int | None) -> str:
    if budget_tokens is None or budget_tokens < _LEAST_BUDGET_TOKENS:
        raise BadRequest(
            f"thinking.budget_tokens: is required and must be at least {_LEAST_BUDGET_TOKENS}",
            param="thinking",
        )
    if budget_tokens <= _LOW_BUDGET_TOKENS:
        return "low"
    return "medium" if budget_tokens <= _MEDIUM_BUDGET_TOKENS else "high"


def _read_schema(asked: OutputFormat, place: str) -> str:
    if not asked.type and asked.schema is None:
        return ""
    param = place.partition(".")[0]
    if asked.type != "json_schema":
        raise BadRequest(f'{place}.type: must be "json_schema"', param=param)
    if not isinstance(asked.schema, dict):
        raise BadRequest(f"{place}.schema: must be an object", param=param)
    return read_format(asked.schema)


def _check_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        named = ", ".join(f'"{choice}"' for choice in choices if choice)
        raise BadRequest(
            f'{name}: "{value}" is not supported by this server (must be one of {named})',
            param=name.partition(".")[0],
        )
