"""The body of `/v1/responses` → an internal request and the answer's frame (contract 3.7).

Every field of the SDK's `ResponseCreateParamsBase` works, or is only taken note of because it
changes no answer here, or is refused by name. Knows no item, no model and no database.
"""

from dataclasses import replace
from typing import Any, Final

import msgspec

from inference.api.keep_alive import read_keep_alive
from inference.api.openai.fields import read_effort
from inference.api.responses.fields import (
    LOGPROBS,
    CacheOptions,
    ImageOptions,
    Reasoning,
    TextConfig,
    check_choice,
    check_include,
    check_metadata,
)
from inference.api.responses.objects import ResponseObject
from inference.api.responses.tools import ResponseTool, read_tools
from inference.api.schemas import not_supported, read_think, read_top_logprobs
from inference.messages import ChatMessage
from inference.requests import ChatRequest
from ollamasite.errors import BadRequest

_REFUSED: Final = (
    "access_programs",
    "background_options",
    "context_management",
    "conversation",
    "moderation",
    "prompt",
)


class ResponseBody(msgspec.Struct):
    """The body of `/v1/responses`. The last three come as extra fields."""

    model: str = ""
    input: Any = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool = True
    stream: bool = False
    stream_options: dict[str, Any] = {}
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: TextConfig = msgspec.field(default_factory=TextConfig)
    tools: list[ResponseTool] = []
    tool_choice: Any = None
    parallel_tool_calls: bool = True
    reasoning: Reasoning = msgspec.field(default_factory=Reasoning)
    top_logprobs: int = 0
    include: list[str] = []
    truncation: str | None = None
    # taken note of
    metadata: dict[str, Any] = {}
    max_tool_calls: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: CacheOptions = msgspec.field(default_factory=CacheOptions)
    service_tier: str | None = None
    background: bool = False
    image: ImageOptions = msgspec.field(default_factory=ImageOptions)
    # refused
    access_programs: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    moderation: Any = None
    prompt: Any = None
    # Ollama's own
    options: dict[str, Any] = {}
    keep_alive: Any = None
    think: Any = None

    def check(self) -> None:
        """Raise BadRequest for what is not here, before anything is read or fetched."""
        for field in _REFUSED:
            if getattr(self, field) not in (None, [], {}):
                raise not_supported(field)
        if self.background:
            raise not_supported("background")
        self._check_choices()
        check_metadata(self.metadata)
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise BadRequest("max_output_tokens must be at least 1", param="max_output_tokens")
        if not self.model:
            raise BadRequest("model is required", param="model")
        if self.input is None and not self.previous_response_id:
            raise BadRequest("input or previous_response_id is required", param="input")

    def to_request(self, messages: tuple[ChatMessage, ...]) -> ChatRequest:
        """Return the internal request for a conversation. Raises InvalidBody, BadRequest."""
        if not messages:
            raise BadRequest("[] is too short - 'input'", param="input")
        effort = read_effort(self.reasoning.effort or "", param="reasoning.effort")
        think = read_think(self.think)
        top_logprobs = read_top_logprobs(self.top_logprobs, is_wished=self.wants_logprobs)
        use = read_tools(self.tools, self.tool_choice, in_parallel=self.parallel_tool_calls)
        return ChatRequest(
            prompt_field="input",
            model=self.model,
            messages=messages,
            tools=use.tools,
            forced_tools=use.forced_tools,
            most_calls=use.most_calls,
            think=effort if think is None else think,
            options=self._options(),
            keep_alive=read_keep_alive(self.keep_alive),
            json_schema=self.text.format.to_schema(),
            top_logprobs=top_logprobs,
            truncate=self.truncation == "auto",
        )

    def to_response(self, response_id: str, created_at: int, *, is_kept: bool) -> ResponseObject:
        """Return the answer before there is any of it: what was asked for."""
        options = self._options()
        return ResponseObject(
            id=response_id,
            created_at=created_at,
            instructions=self.instructions,
            max_output_tokens=self.max_output_tokens,
            max_tool_calls=self.max_tool_calls,
            model=self.model,
            parallel_tool_calls=self.parallel_tool_calls,
            previous_response_id=self.previous_response_id or None,
            prompt_cache_key=self.prompt_cache_key,
            prompt_cache_retention=self.prompt_cache_retention,
            reasoning={
                "effort": self.reasoning.effort,
                "summary": self.reasoning.summary or self.reasoning.generate_summary,
            },
            safety_identifier=self.safety_identifier,
            store=is_kept,
            temperature=options["temperature"],
            text={"format": self.text.format.to_dict(), "verbosity": "medium"},
            tool_choice=self.tool_choice or "auto",
            tools=[tool.to_dict() for tool in self.tools],
            top_logprobs=self.top_logprobs,
            top_p=options.get("top_p"),
            truncation=self.truncation or "disabled",
            user=self.user,
            metadata=self.metadata,
        )

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities are to be told."""
        return LOGPROBS in self.include or self.top_logprobs > 0

    def _check_choices(self) -> None:
        check_include(self.include)
        check_choice("truncation", self.truncation, {"auto", "disabled"})
        check_choice("service_tier", self.service_tier, {"auto", "default"})
        check_choice("prompt_cache_retention", self.prompt_cache_retention, {"in_memory", "24h"})
        for part in (self.reasoning, self.text, self.image, self.prompt_cache_options):
            part.check()

    def _options(self) -> dict[str, Any]:
        # An absent temperature is 1.0 whatever the model says, an absent top_p is the model's own
        # (contract 3.7). The extra field `options` goes over that, OpenAI's own over both.
        given = {
            "num_predict": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {"temperature": 1.0} | self.options | own


class InputTokensBody(ResponseBody):
    """The body of `/v1/responses/input_tokens`: what a response would be asked with."""

    personality: Any = None

    def check(self) -> None:
        """Raise BadRequest for what is not here."""
        if self.personality is not None:
            raise not_supported("personality")
        super().check()

    def to_request(self, messages: tuple[ChatMessage, ...]) -> ChatRequest:
        """Return a request for the prompt alone, counted and uncut. Raises as ResponseBody."""
        asked = super().to_request(messages)
        return replace(asked, renders_only=True, counts_tokens=True, truncate=False)
