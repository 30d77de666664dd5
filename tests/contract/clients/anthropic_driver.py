"""Uses Anthropic's SDK as its caller says and tells what came of it.

Runs in the clients' own environment, asked line by line (step_lines). Knows nothing of what is
behind the address.
"""

import asyncio
import json
from typing import Any

import anthropic
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel, TypeAdapter

from tests.contract.clients.step_lines import answer_lines

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Its name"}},
        "required": ["city"],
    },
}
HELLO: Any = [{"role": "user", "content": "What is 2+2?"}]


class Answer(BaseModel):
    """What a structured answer is to be."""

    number: int


class Steps:
    """What can be asked for; each returns something that JSON can hold."""

    def __init__(self, host: str, key: str, model: str) -> None:
        self._host = host
        self._key = key
        self._asked: dict[str, Any] = {"model": model, "max_tokens": 2000, "messages": HELLO}

    def _client(self, **changes: Any) -> anthropic.Anthropic:
        given = {"base_url": self._host, "api_key": self._key, "max_retries": 0, **changes}
        return anthropic.Anthropic(**given)

    def create(self) -> Any:
        """Ask once."""
        message = self._client().messages.create(**self._asked, system="Be short.")
        return message.model_dump(mode="json")

    def bearer(self) -> Any:
        """Ask once, the key as a bearer token."""
        client = self._client(api_key=None, auth_token=self._key)
        return client.messages.create(**self._asked).content[0].text

    def asynchronous(self) -> Any:
        """Ask once, the answer piece by piece, with the asynchronous client."""

        async def ask() -> list[str]:
            client = anthropic.AsyncAnthropic(base_url=self._host, api_key=self._key)
            async with client, client.messages.stream(**self._asked) as stream:
                return [text async for text in stream.text_stream]

        return asyncio.run(ask())

    def stream(self) -> Any:
        """Ask once, the answer piece by piece."""
        with self._client().messages.stream(**self._asked) as stream:
            pieces = list(stream.text_stream)
            return [pieces, stream.get_final_message().model_dump(mode="json")]

    def tools(self) -> Any:
        """Ask a model that has a tool, in a stream."""
        with self._client().messages.stream(**self._asked, tools=[WEATHER]) as stream:
            kinds = [event.type for event in stream]
            return [kinds, stream.get_final_message().model_dump(mode="json")]

    def history(self) -> Any:
        """Give back what the model said, with the results of its calls, and go on."""
        client = self._client()
        tools: Any = {"tools": [WEATHER], "thinking": {"type": "adaptive"}}
        first = client.messages.create(**self._asked, **tools)
        calls = [block for block in first.content if block.type == "tool_use"]
        results: Any = [
            {"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls
        ]
        messages = [
            *HELLO,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
        second = client.messages.create(**self._asked | {"messages": messages}, **tools)
        return second.content[0].text

    def thinking(self) -> Any:
        """Ask a model that thinks, in a stream."""
        asked: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        with self._client().messages.stream(**self._asked, **asked) as stream:
            message = stream.get_final_message()
        return [block.model_dump(mode="json") for block in message.content]

    def parse(self) -> Any:
        """Ask for an object."""
        parsed = self._client().messages.parse(**self._asked, output_format=Answer)
        return parsed.parsed_output.number

    def count_tokens(self) -> Any:
        """Have the tokens of a prompt counted."""
        asked = {name: self._asked[name] for name in ("model", "messages")}
        return self._client().messages.count_tokens(**asked, tools=[WEATHER]).input_tokens

    def request_id(self) -> Any:
        """Ask once and tell the answer's id, from the header and as the SDK gives it."""
        raw = self._client().messages.with_raw_response.create(**self._asked)
        return [raw.headers["x-request-id"], raw.request_id, raw.parse()._request_id]

    def schemas(self) -> Any:
        """Hold whole answers and a stream's events to the SDK's own models, strictly."""
        client = self._client()
        asked: Any = self._asked | {"tools": [WEATHER]}
        whole = client.messages.with_raw_response.create(**asked).http_response.json()
        checked = [TypeAdapter(Message).validate_python(whole).type]
        with client.messages.with_streaming_response.create(**asked, stream=True) as raw:
            lines = list(raw.iter_lines())
        events = [json.loads(line.removeprefix("data: ")) for line in lines if "data: " in line]
        reader: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
        checked += [reader.validate_python(event).type for event in events]
        count = {"model": asked["model"], "messages": HELLO}
        counted = client.messages.with_raw_response.count_tokens(**count).http_response.json()
        return [*checked, TypeAdapter(MessageTokensCount).validate_python(counted).input_tokens]

    def errors(self) -> Any:
        """Do what must fail; tell what the SDK raised."""
        asked = self._asked
        wrong = {
            "bad": lambda: self._client().messages.create(**asked | {"max_tokens": 0}),
            "refused": lambda: self._client().messages.create(**asked, container="c"),
            "key": lambda: self._client(api_key="wrong").messages.create(**asked),
            "model": lambda: self._client().messages.create(**asked | {"model": "nope"}),
            "count": lambda: self._client().messages.count_tokens(model="nope", messages=HELLO),
            "batch": lambda: self._client().messages.batches.create(requests=[]),
        }
        return {name: self._failure(call) for name, call in wrong.items()}

    def busy(self) -> Any:
        """Ask a server that has too much to do."""
        return self._failure(lambda: self._client().messages.create(**self._asked))

    def broken_stream(self) -> Any:
        """Read a stream that fails in the middle."""
        pieces: list[str] = []

        def read() -> None:
            with self._client().messages.stream(**self._asked) as stream:
                pieces.extend(stream.text_stream)

        return [self._failure(read, has_body=False), pieces]

    def fields(self) -> Any:
        """Name every field that a request may have."""
        kinds: Any = (
            MessageCreateParamsBase,
            beta_create_params.MessageCreateParamsBase,
            MessageCountTokensParams,
        )
        return sorted({"stream"}.union(*(kind.__annotations__ for kind in kinds)))

    def _failure(self, call: Any, *, has_body: bool = True) -> Any:
        try:
            call()
        except anthropic.APIStatusError as error:
            if has_body:
                TypeAdapter(ErrorResponse).validate_python(error.body)
            return [type(error).__name__, error.type, error.api_message, error.request_id]
        return None


if __name__ == "__main__":
    answer_lines(Steps)
