"""`POST /api/embed` and the older `/api/embeddings` in Ollama's own dialect.

    {"model": "minilm:latest", "embeddings": [[0.1, …], …],
     "total_duration": 12000000, "load_duration": 300000, "prompt_eval_count": 7}
    {"embedding": [0.1, …]}

Shapes and refusals: contract/ollama.md 1.6, 2.3, 2.4. Knows no engine and no row of the database.
"""

import asyncio
from typing import Any, Final

import msgspec
import numpy as np
from django.http import HttpResponse

from inference import embeddings
from inference.api.caller import caller_of
from inference.api.keep_alive import read_keep_alive
from inference.embeddings import EmbeddingRequest, Embeddings, Vectors
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.errors import BadRequest, InvalidBody
from ollamasite.http import encode_json, json_response

_FLOAT32_DIGITS: Final = 9  # enough to tell any two float32 apart
_ROWS_AT_ONCE: Final = 64


class EmbedBody(msgspec.Struct):
    """The body of `/api/embed`. `name` is what old clients call `model`."""

    model: str = ""
    name: str = ""
    input: Any = None
    truncate: bool = True
    dimensions: int = 0
    options: dict[str, Any] = {}
    keep_alive: Any = None

    def to_request(self) -> EmbeddingRequest:
        """Return the internal request. Raises InvalidBody."""
        return EmbeddingRequest(
            inputs=_read_texts(self.input),
            model=self.model or self.name,
            options=self.options,
            keep_alive=read_keep_alive(self.keep_alive),
            truncate=self.truncate,
            dimensions=self.dimensions,
        )


class EmbeddingBody(msgspec.Struct):
    """The body of `/api/embeddings`."""

    model: str = ""
    name: str = ""
    prompt: str = ""
    options: dict[str, Any] = {}
    keep_alive: Any = None

    def to_request(self) -> EmbeddingRequest:
        """Return the internal request. Raises InvalidBody, BadRequest."""
        keep_alive = read_keep_alive(self.keep_alive)
        model = self.model or self.name
        if not model:
            raise BadRequest("model is required")
        return EmbeddingRequest(
            model=model,
            inputs=(self.prompt,) if self.prompt else (),
            options=self.options,
            keep_alive=keep_alive,
            normalize=False,
        )


class EmbedView(CallView):
    """`POST /api/embed`."""

    async def post(self, request: Any) -> HttpResponse:
        """Return a vector of length 1 for each text, or load or unload a model."""
        body = await read_body(request, EmbedBody, "EmbedRequest", empty_message=NATIVE_EMPTY_BODY)
        asked = body.to_request()
        found = await embeddings.embed(caller_of(request), asked)
        rows = await number_rows(found.vectors)
        return json_response({"model": asked.model, "embeddings": rows, **_metrics(found)})


class EmbeddingsView(CallView):
    """`POST /api/embeddings`."""

    async def post(self, request: Any) -> HttpResponse:
        """Return the vector of one text as the model pooled it."""
        body = await read_body(
            request, EmbeddingBody, "EmbeddingRequest", empty_message=NATIVE_EMPTY_BODY
        )
        asked = body.to_request()
        found = await embeddings.embed(caller_of(request), asked)
        rows = await number_rows(found.vectors)
        return json_response({"embedding": rows[0] if rows else []})


async def number_rows(vectors: Vectors) -> list[msgspec.Raw]:
    """Return float32 vectors as JSON arrays, letting others in between: answers can be large."""
    rows: list[msgspec.Raw] = []
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        block = _shortened(vectors[start : start + _ROWS_AT_ONCE])
        rows += [msgspec.Raw(encode_json(row)) for row in block]
        await asyncio.sleep(0)
    return rows


def _shortened(vectors: Vectors) -> list[list[float]]:
    """Return numbers that are written with nine digits at most and are the same float32."""
    wide = vectors.astype(np.float64)
    magnitudes = np.floor(np.log10(np.abs(wide), where=wide != 0.0, out=np.zeros_like(wide)))
    scale = 10.0 ** (_FLOAT32_DIGITS - 1 - magnitudes)
    rows: list[list[float]] = (np.rint(wide * scale) / scale).tolist()
    return rows


def _read_texts(value: Any) -> tuple[str, ...]:
    match value:
        case None | "":
            return ()
        case str():
            return (value,)
        case list() if all(isinstance(text, str) for text in value):
            return tuple(value)
    raise InvalidBody("invalid input type")


def _metrics(found: Embeddings) -> dict[str, int]:
    if not len(found.vectors):
        return {}
    values = {
        "total_duration": found.total_ns,
        "load_duration": found.load_ns,
        "prompt_eval_count": found.prompt_tokens,
    }
    return {name: value for name, value in values.items() if value}
