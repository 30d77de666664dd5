"""Uses langchain-openai as its caller says and tells what came of it.

Runs in the clients' own environment, asked line by line (step_lines). Knows nothing of what is
behind the address.
"""

from typing import Any

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

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
QUESTION = "What is 2+2?"
ASKED = [{"role": "user", "content": QUESTION}]


class Answer(BaseModel):
    """An answer that is a number."""

    number: int


class Steps:
    """What can be asked for; each returns something that JSON can hold."""

    def __init__(self, host: str, key: str, model: str) -> None:
        self._model = model
        self._place: dict[str, Any] = {"base_url": f"{host}/v1", "api_key": key}

    def _chat(self, **options: Any) -> ChatOpenAI:
        given = {"model": self._model, "temperature": 0, "max_retries": 0, **options}
        return ChatOpenAI(**self._place, **given)

    def invoke(self) -> Any:
        """Ask once."""
        answer = self._chat(seed=1).invoke(QUESTION)
        usage = answer.usage_metadata or {}
        counts = [usage.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")]
        return {"content": answer.content, "usage": counts}

    def stream(self) -> Any:
        """Ask once, the answer piece by piece."""
        return [part.content for part in self._chat(stream_usage=True).stream(QUESTION)]

    def responses(self) -> Any:
        """Ask once over the newer endpoint."""
        return self._chat(use_responses_api=True).invoke(QUESTION).text

    def tools(self) -> Any:
        """Ask a model that has a tool."""
        return self._chat().bind_tools([WEATHER]).invoke(QUESTION).tool_calls

    def forced(self) -> Any:
        """Ask a model that has to use its tool, one call at most."""
        how = {"tool_choice": "get_weather", "parallel_tool_calls": False}
        return self._chat().bind_tools([WEATHER], **how).invoke(QUESTION).tool_calls

    def streamed_tools(self) -> Any:
        """Ask a model that has a tool, its calls put together from the pieces."""
        whole = None
        for part in self._chat().bind_tools([WEATHER]).stream(QUESTION):
            whole = part if whole is None else whole + part
        return [] if whole is None else whole.tool_calls

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

    def structured(self) -> Any:
        """Ask for an object by a schema."""
        chat = self._chat().with_structured_output(Answer, method="json_schema")
        return chat.invoke(QUESTION).model_dump()

    def structured_by_call(self) -> Any:
        """Ask for an object by a tool that must be called."""
        chat = self._chat().with_structured_output(Answer, method="function_calling")
        return chat.invoke(QUESTION).model_dump()

    def completion(self) -> Any:
        """Have a text continued."""
        return OpenAI(**self._place, model=self._model, max_retries=0).invoke(QUESTION)

    def embeddings(self) -> Any:
        """Ask for vectors, of documents and of a query."""
        # With it, the texts would be cut into tokens of a vocabulary that has to be downloaded.
        embedder = OpenAIEmbeddings(
            **self._place, model=self._model, check_embedding_ctx_length=False, max_retries=0
        )
        return [*embedder.embed_documents(["a", "b"]), embedder.embed_query("a")]

    def token_embeddings(self) -> Any:
        """Ask for vectors of token arrays, as langchain sends them where it cuts texts itself."""
        embedder = OpenAIEmbeddings(**self._place, model=self._model, max_retries=0)
        found = embedder.client.create(input=[[1, 2, 3], [4, 5]], model=self._model)
        return [entry.embedding for entry in found.data]

    def missing(self) -> Any:
        """Ask a model that is not there."""
        return _failure(lambda: self._chat(model="nope").invoke(QUESTION))


def _failure(ask: Any) -> Any:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 # whatever the client makes of it
        return [type(error).__name__, str(error)]
    return None


if __name__ == "__main__":
    answer_lines(Steps)
