"""The body of `/v1/chat/completions` → an internal request (contract/ollama.md 3.1, 2.7).

Every field of the OpenAI SDK works, is noted or is refused by name; the latter two are in
`openai_noted`. Knows no model and no answer.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from inference.api.formats import ANY_OBJECT, read_format
from inference.api.keep_alive import read_keep_alive
from inference.api.openai.fields import (
    NOTHING_FETCHED,
    StreamOptions,
    read_choices,
    read_effort,
    read_logit_bias,
    read_stop,
)
from inference.api.openai.messages import Message, read_messages, web_images
from inference.api.openai.noted import NotedFields
from inference.api.openai.tools import Tool, read_tool_use
from inference.api.schemas import read_think, read_top_logprobs
from inference.requests import ChatRequest
from ollamasite.errors import BadRequest, InvalidBody

_FORMAT = "response_format"


class Reasoning(msgspec.Struct):
    """`reasoning`."""

    effort: str = ""


class JsonSchema(msgspec.Struct):
    """`response_format.json_schema`: strict or not, an answer always keeps to it."""

    name: str = ""
    description: str = ""
    strict: bool = False
    schema: Any = None


class ResponseFormat(msgspec.Struct):
    """`response_format`."""

    type: str = ""
    json_schema: JsonSchema = msgspec.field(default_factory=JsonSchema)

    def to_schema(self) -> str:
        """Return the JSON text of a schema, empty for none. Raises BadRequest, InvalidFormat."""
        match self.type:
            case "" | "text":
                return ""
            case "json_object":
                return ANY_OBJECT
            case "json_schema":
                schema = read_format(self.json_schema.schema)
                if not schema:
                    words = "response_format.json_schema.schema is required"
                    raise InvalidBody(words, param=_FORMAT)
                return schema
        raise BadRequest(
            "response_format.type must be text, json_object or json_schema", param=_FORMAT
        )


class ChatCompletionBody(NotedFields):
    """The body of `/v1/chat/completions`.

    `options`, `keep_alive` and `think` are Ollama's and come as extra fields.
    """

    model: str = ""
    messages: list[Message] = []
    stream: bool = False
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: Any = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: ResponseFormat = msgspec.field(default_factory=ResponseFormat)
    tools: list[Tool] = []
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str = ""
    reasoning: Reasoning = msgspec.field(default_factory=Reasoning)
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: dict[str, Any] = {}
    n: int = 1
    options: dict[str, Any] = {}
    keep_alive: Any = None
    think: Any = None

    def web_images(self) -> list[str]:
        """Return the addresses of the images that have to be fetched."""
        return list(web_images(self.messages))

    def to_request(self, fetched: Mapping[str, bytes] = NOTHING_FETCHED) -> ChatRequest:
        """Return the internal request; `fetched`: images by address.

        Raises InvalidBody, BadRequest, InvalidFormat.
        """
        if not self.messages:
            raise InvalidBody("[] is too short - 'messages'")
        messages = read_messages(self.messages, fetched)
        self.check_noted()
        use = read_tool_use(self.tools, self.tool_choice, in_parallel=self.parallel_tool_calls)
        if not self.model:
            raise BadRequest("model is required", param="model")
        return ChatRequest(
            model=self.model,
            messages=messages,
            tools=use.tools,
            forced_tools=use.forced_tools,
            most_calls=use.most_calls,
            think=self._think(),
            options=self._options(),
            keep_alive=read_keep_alive(self.keep_alive),
            json_schema=self.response_format.to_schema(),
            top_logprobs=self._top_logprobs(),
            choices=read_choices(self.n),
            logit_bias=read_logit_bias(self.logit_bias),
        )

    def _think(self) -> bool | str | None:
        think = read_think(self.think)
        effort = read_effort(self.reasoning_effort or self.reasoning.effort)
        return effort if think is None else think

    def _top_logprobs(self) -> int | None:
        count = read_top_logprobs(self.top_logprobs, is_wished=self.logprobs)
        if count is None and self.top_logprobs:
            raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
        return count

    def _options(self) -> dict[str, Any]:
        # Absent temperature and top_p are 1.0 here whatever the model says (contract 3.1). What
        # stands in the extra field `options` goes over that, and OpenAI's own fields over both.
        max_tokens = self.max_completion_tokens
        given = {
            "num_predict": self.max_tokens if max_tokens is None else max_tokens,
            "seed": self.seed,
            "stop": read_stop(self.stop),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {"temperature": 1.0, "top_p": 1.0} | self.options | own
