"""Uses langchain-ollama as its caller says and tells what came of it.

Runs in the clients' own environment, asked line by line (step_lines). Knows nothing of what is
behind the address.
"""

from typing import Any

from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tests.contract.clients.step_lines import answer_lines

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
ANSWER = {
    "title": "Answer",
    "type": "object",
    "properties": {"number": {"type": "integer"}},
    "required": ["number"],
    "additionalProperties": False,
}
QUESTION = "What is 2+2?"


class Steps:
    """What can be asked for; each returns something that JSON can hold."""

    def __init__(self, host: str, key: str, model: str) -> None:
        self._place: dict[str, Any] = {
            "base_url": host,
            "model": model,
            "client_kwargs": {"headers": {"Authorization": f"Bearer {key}"}},
        }

    def _chat(self, **options: Any) -> ChatOllama:
        return ChatOllama(**self._place, temperature=0, seed=1, **options)

    def invoke(self) -> Any:
        """Ask once."""
        answer = self._chat(validate_model_on_init=True).invoke(QUESTION)
        return {"content": answer.content, "usage": answer.usage_metadata}

    def stream(self) -> Any:
        """Ask once, the answer piece by piece."""
        return [part.content for part in self._chat().stream(QUESTION)]

    def tools(self) -> Any:
        """Ask a model that has a tool."""
        return self._chat().bind_tools([WEATHER]).invoke(QUESTION).tool_calls

    def structured(self) -> Any:
        """Ask for an object."""
        return self._chat().with_structured_output(ANSWER, method="json_schema").invoke(QUESTION)

    def reasoning(self) -> Any:
        """Ask a model that thinks."""
        answer = self._chat(reasoning=True).invoke(QUESTION)
        return [answer.additional_kwargs.get("reasoning_content"), answer.content]

    def history(self) -> Any:
        """Ask behind an earlier call of a tool and its result."""
        call = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1"}
        messages = [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "How is Oslo?"},
            {"role": "assistant", "content": "", "tool_calls": [call | {"type": "tool_call"}]},
            {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
        ]
        return self._chat().bind_tools([WEATHER]).invoke(messages).content

    def completion(self) -> Any:
        """Have a text continued."""
        return OllamaLLM(**self._place, temperature=0, seed=1).invoke(QUESTION)

    def embeddings(self) -> Any:
        """Ask for vectors, of documents and of a query."""
        embedder = OllamaEmbeddings(**self._place)
        return [*embedder.embed_documents(["a", "b"]), embedder.embed_query("a")]

    def missing(self) -> Any:
        """Ask a model that is not there."""
        try:
            ChatOllama(**self._place | {"model": "nope"}).invoke(QUESTION)
        except Exception as error:  # noqa: BLE001 # whatever the client makes of it
            return [type(error).__name__, str(error)]
        return None


if __name__ == "__main__":
    answer_lines(Steps)
