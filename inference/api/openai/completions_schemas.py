"""The body of `/v1/completions` → internal requests, one for each prompt (contract/ollama.md 3.5).

As in Ollama the model's template is applied to a prompt; the extra field `raw` sends it as it is.
Token ids are always computed as they are, and so is a prompt whose own log probabilities are asked
for (`echo` with `logprobs`, or with `max_tokens` 0): a template would have put others around them.
Knows no model and no answer.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from inference.api.keep_alive import read_keep_alive
from inference.api.openai.chat_schemas import ResponseFormat
from inference.api.openai.fields import (
    MAX_CHOICES,
    StreamOptions,
    are_token_ids,
    read_logit_bias,
)
from inference.api.schemas import read_think
from inference.requests import CompletionRequest
from ollamasite.errors import BadRequest

MAX_PROMPTS: Final = 64
# Of all prompts together: each needs a place in the engine while it grows.
MAX_ANSWERS: Final = 128
MAX_LOGPROBS: Final = 5
_GO_TYPES: Final[dict[type, str]] = {
    bool: "bool",
    int: "float64",
    float: "float64",
    dict: "map[string]interface {}",
    list: "[]interface {}",
    type(None): "<nil>",
}

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCompletions:
    """What is to be generated, and what of it is shown.

    `shown_choices` of each prompt, the best; `top_logprobs`: None for no log probabilities;
    `echoes`: the prompts come in front of their answers.
    """

    requests: tuple[CompletionRequest, ...]
    shown_choices: int = 1
    top_logprobs: int | None = None
    echoes: bool = False


class CompletionBody(msgspec.Struct):
    """The body of `/v1/completions`. The last five come as extra fields."""

    model: str = ""
    prompt: Any = None
    suffix: str = ""
    stream: bool = False
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)
    max_tokens: int | None = None
    seed: int | None = None
    stop: Any = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None
    echo: bool = False
    n: int = 1
    best_of: int | None = None
    logit_bias: dict[str, Any] = {}
    user: str = ""  # taken; changes no answer
    response_format: ResponseFormat = msgspec.field(default_factory=ResponseFormat)
    raw: bool = False
    options: dict[str, Any] = {}
    keep_alive: Any = None
    think: Any = None

    def to_request(self) -> AskedCompletions:
        """Return the internal requests. Raises InvalidBody, BadRequest."""
        prompts = read_prompts(self.prompt)
        candidates = self._candidates(len(prompts))
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise BadRequest(f"logprobs must be between 0 and {MAX_LOGPROBS}", param="logprobs")
        self._check_suffix(prompts)
        is_choosing = candidates > self.n
        common: dict[str, Any] = {
            "model": self.model,
            "suffix": self.suffix,
            "choices": candidates,
            "json_schema": self.response_format.to_schema(),
            # The best ones are found by their log probabilities.
            "top_logprobs": 0 if self.logprobs is None and is_choosing else self.logprobs,
            "options": self._options(),
            "keep_alive": read_keep_alive(self.keep_alive),
            "think": read_think(self.think),
            "logit_bias": read_logit_bias(self.logit_bias),
        }
        return AskedCompletions(
            requests=tuple(self._request(prompt, common) for prompt in prompts),
            shown_choices=self.n,
            top_logprobs=self.logprobs,
            echoes=self.echo,
        )

    def _request(self, prompt: Prompt, common: dict[str, Any]) -> CompletionRequest:
        # What token ids say is known from their scores, and a score needs a prompt that is whole.
        needs_score = self.logprobs is not None or self.max_tokens == 0
        scores_prompt = self.echo and (needs_score or not isinstance(prompt, str))
        asked = {**common, "scores_prompt": scores_prompt, "truncate": not scores_prompt}
        if isinstance(prompt, str):
            return CompletionRequest(**asked, prompt=prompt, raw=self.raw or scores_prompt)
        return CompletionRequest(**asked, tokens=prompt)

    def _candidates(self, prompt_count: int) -> int:
        """Return how many answers each prompt gets, from which the best are chosen."""
        if not 1 <= self.n <= MAX_CHOICES:
            raise BadRequest(f"n must be between 1 and {MAX_CHOICES}", param="n")
        best_of = self.n if self.best_of is None else self.best_of
        if not self.n <= best_of <= MAX_CHOICES:
            message = f"best_of must be between n and {MAX_CHOICES}"
            raise BadRequest(message, param="best_of")
        if best_of > self.n and self.stream:
            message = "best_of must not be greater than n in an answer that is streamed"
            raise BadRequest(message, param="best_of")
        if best_of * prompt_count > MAX_ANSWERS:
            message = f"a request may have at most {MAX_ANSWERS} answers to all of its prompts"
            raise BadRequest(message, param="best_of" if best_of > self.n else "n")
        return best_of

    def _check_suffix(self, prompts: tuple[Prompt, ...]) -> None:
        if not self.suffix:
            return
        clashes = {
            '"echo"': self.echo,
            '"raw"': self.raw,
            "token ids": any(not isinstance(prompt, str) for prompt in prompts),
        }
        for other, is_there in clashes.items():
            if is_there:
                raise BadRequest(f'"suffix" cannot be used with {other}', param="suffix")

    def _options(self) -> dict[str, Any]:
        # Absent fields have OpenAI's defaults whatever the model says (contract 3.5). What stands
        # in the extra field `options` goes over those, and OpenAI's own fields over both.
        given = {
            "num_predict": self.max_tokens,
            "seed": self.seed,
            "stop": read_stop_strictly(self.stop),
            "temperature": self.temperature,
            "top_p": self.top_p or None,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {
            "temperature": 1.0,
            "top_p": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            **self.options,
            **own,
        }


def read_prompts(value: Any) -> tuple[Prompt, ...]:
    """Return the prompts: texts, or token ids. None at all is an empty one. Raises BadRequest."""
    if value is None or isinstance(value, str):
        return (value or "",)
    if isinstance(value, list) and value:
        prompts = _listed_prompts(value)
        if len(prompts) > MAX_PROMPTS:
            raise BadRequest(f"prompt must have at most {MAX_PROMPTS} entries", param="prompt")
        return prompts
    raise _bad_prompt()


def _listed_prompts(value: list[Any]) -> tuple[Prompt, ...]:
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if are_token_ids(value):
        return (tuple(value),)
    if all(isinstance(item, list) and are_token_ids(item) for item in value):
        return tuple(tuple(item) for item in value)
    raise _bad_prompt()


def _bad_prompt() -> BadRequest:
    message = "prompt must be a string, an array of strings, an array of token ids or an array of"
    return BadRequest(f"{message} arrays of token ids", param="prompt")


def read_stop_strictly(value: Any) -> list[str] | None:
    """Return the stop strings, None where none are asked for. Raises BadRequest."""
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    for item in listed:
        if not isinstance(item, str):
            go_type = _GO_TYPES[type(item)]
            raise BadRequest(f"invalid type for 'stop' field: {go_type}", param="stop")
    return listed
