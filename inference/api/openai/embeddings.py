"""`/v1/embeddings` in OpenAI's dialect, as Ollama speaks it (contract/ollama.md 3.6, 2.7).

Beside what Ollama takes, `input` may be token ids of the model's own vocabulary, as in OpenAI's
API: one list of them, or a list of lists. Knows no engine and no row of the database.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.http import HttpResponse

from inference import embeddings
from inference.api.caller import caller_of
from inference.api.embed import number_rows
from inference.api.keep_alive import read_keep_alive
from inference.api.openai.fields import are_token_ids
from inference.embeddings import EmbeddingRequest, Embeddings
from ollamasite.api_views import OPENAI_EMPTY_BODY, CallView, read_body
from ollamasite.errors import BadRequest, InvalidBody
from ollamasite.http import JSON, json_response

_BASE64: Final = "base64"
_FORMATS: Final = ("", "float", _BASE64)


class EmbeddingsBody(msgspec.Struct):
    """The body of `/v1/embeddings`. The last three come as extra fields."""

    model: str = ""
    input: Any = None
    dimensions: int = 0
    encoding_format: str = ""
    user: str = ""  # taken; changes no answer
    options: dict[str, Any] = {}
    keep_alive: Any = None
    truncate: bool = True

    def to_request(self) -> EmbeddingRequest:
        """Return the internal request. Raises InvalidBody, BadRequest."""
        inputs = _read_inputs(self.input)
        if self.dimensions < 0:  # 0 is as good as none (contract 3.6)
            raise BadRequest("dimensions must not be negative", param="dimensions")
        if self.encoding_format.lower() not in _FORMATS:
            raise InvalidBody(
                f"Invalid value for 'encoding_format' = {self.encoding_format}. "
                "Supported values: ['float', 'base64'].",
                param="encoding_format",
            )
        return EmbeddingRequest(
            model=self.model,
            inputs=inputs,
            options=self.options,
            keep_alive=read_keep_alive(self.keep_alive),
            dimensions=self.dimensions,
            truncate=self.truncate,
        )


class OpenAIEmbeddingsView(CallView):
    """`POST /v1/embeddings`."""

    async def post(self, request: Any) -> HttpResponse:
        """Return a vector of length 1 for each input."""
        body = await read_body(
            request, EmbeddingsBody, "openai.EmbedRequest", empty_message=OPENAI_EMPTY_BODY
        )
        asked = body.to_request()
        found = await embeddings.embed(caller_of(request), asked)
        is_base64 = body.encoding_format.lower() == _BASE64
        rows = _base64_rows(found) if is_base64 else await number_rows(found.vectors)
        answer = _answer(body.model, found, rows)
        return json_response(answer, content_type=JSON, newline=True)


def _answer(model: str, found: Embeddings, rows: Sequence[Any]) -> dict[str, Any]:
    data = [
        {"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _base64_rows(found: Embeddings) -> list[str]:
    """Return the vectors as base64 of little-endian float32."""
    return [base64.b64encode(row.tobytes()).decode() for row in found.vectors.astype("<f4")]


def _read_inputs(value: Any) -> tuple[str | tuple[int, ...], ...]:
    if value is None or value == []:
        raise InvalidBody("invalid input", param="input")
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        if are_token_ids(value):
            return (tuple(value),)
        if all(isinstance(item, list) and are_token_ids(item) for item in value):
            return tuple(tuple(item) for item in value)
    raise InvalidBody("invalid input type", param="input")
