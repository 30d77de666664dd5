"""Uses litellm as its caller says and tells what came of it.

Runs in an environment of its own, asked line by line (step_lines). Knows nothing of what is
behind the address.
"""

import json
from typing import Any

import litellm

from tests.contract.clients.step_lines import answer_lines

# It prints advice behind an error, and standard output is for the results here.
litellm.suppress_debug_info = True
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
QUESTION = "What is 2+2?"
ASKED = [{"role": "user", "content": QUESTION}]


class Steps:
    """What can be asked for; each returns something that JSON can hold."""

    def __init__(self, host: str, key: str, model: str) -> None:
        self._model = model
        self._place: dict[str, Any] = {
            "model": f"openai/{model}",
            "api_base": f"{host}/v1",
            "api_key": key,
            "num_retries": 0,
            "max_retries": 0,
        }

    def completion(self) -> Any:
        """Ask once."""
        answer = litellm.completion(**self._place, messages=ASKED)
        return {"content": answer.choices[0].message.content, "total": answer.usage.total_tokens}

    def stream(self) -> Any:
        """Ask once, the answer piece by piece."""
        parts = litellm.completion(**self._place, messages=ASKED, stream=True)
        return [part.choices[0].delta.content for part in parts]

    def tools(self) -> Any:
        """Ask a model that has a tool."""
        answer = litellm.completion(**self._place, messages=ASKED, tools=[WEATHER])
        call = answer.choices[0].message.tool_calls[0].function
        return [call.name, json.loads(call.arguments)]

    def text(self) -> Any:
        """Have a text continued."""
        asked = self._place | {"model": f"text-completion-openai/{self._model}"}
        return litellm.text_completion(**asked, prompt=QUESTION).choices[0].text

    def embeddings(self) -> Any:
        """Ask for vectors."""
        found = litellm.embedding(**self._place, input=["a", "b"])
        return [entry["embedding"] for entry in found.data]

    def missing(self) -> Any:
        """Ask a model that is not there."""
        asked = self._place | {"model": "openai/nope"}
        return _failure(lambda: litellm.completion(**asked, messages=ASKED))


def _failure(ask: Any) -> Any:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 # whatever the client makes of it
        return [type(error).__name__, str(error)]
    return None


if __name__ == "__main__":
    answer_lines(Steps)
