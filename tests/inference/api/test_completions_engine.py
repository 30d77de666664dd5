"""Scores, echo and the best of several, all the way: the site, a node, a runner, llama.cpp."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.config import EngineConfig
from inference.engine.server import serve
from inference.fleet import engine_fleet
from tests.conftest import MakeModel
from tests.fakes.http import AsgiClient

pytestmark = [pytest.mark.slow, pytest.mark.beside]

PROMPT = "hello world, why is the sky blue?"
ASKED: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "logprobs": 2, "seed": 7}


@pytest.fixture
def tiny(transactional_db: None, make_model: MakeModel) -> str:
    """A model that makes no sense, quickly."""
    return make_model("tiny")


@pytest.fixture
async def real_node(settings: Any, tmp_path: Path, tiny: str) -> AsyncIterator[None]:
    """A real engine where the site looks for its engine."""
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=settings.BLOBS_DIR, drain_s=5.0, threads=1
    )
    settings.ENGINE_SOCKET = config.socket_path
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(config, stopping))
    while not config.socket_path.exists():
        await asyncio.sleep(0.01)
    yield
    engine_fleet(config.socket_path).close()
    stopping.set()
    await serving


async def asked(api: AsgiClient, **fields: Any) -> Any:
    answer = await api.post("/v1/completions", {**ASKED, **fields})
    assert answer.status == 200, answer.text
    return answer.json()


def mean(choice: Any) -> float:
    logprobs = choice["logprobs"]["token_logprobs"]
    return float(sum(logprobs) / len(logprobs))


async def test_completions_are_scored_and_chosen(real_node: None, api: AsgiClient) -> None:
    """One test for all of it: what takes the time is starting the node and loading the model."""
    # The prompt alone.
    body = await asked(api, echo=True, max_tokens=0)
    [prompt] = body["choices"]
    scores = prompt["logprobs"]
    assert (prompt["text"], prompt["finish_reason"]) == (PROMPT, "length")
    assert len(scores["tokens"]) == body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"]
    assert "".join(scores["tokens"]) == f"<s>{PROMPT}"
    assert scores["token_logprobs"][0] is None
    assert max(scores["token_logprobs"][1:]) < 0
    offsets = zip(scores["tokens"][1:], scores["text_offset"][1:], strict=True)
    assert all(PROMPT.startswith(token, at) for token, at in offsets)

    # The prompt in front of an answer, which is the same as without it.
    greedy = {"temperature": 0, "max_tokens": 3}
    [echoed] = (await asked(api, echo=True, **greedy))["choices"]
    [plain] = (await asked(api, raw=True, **greedy))["choices"]
    assert echoed["text"] == PROMPT + plain["text"]
    assert echoed["logprobs"]["tokens"] == scores["tokens"] + plain["logprobs"]["tokens"]
    assert echoed["logprobs"]["token_logprobs"][-3:] == pytest.approx(
        plain["logprobs"]["token_logprobs"], abs=1e-3
    )

    # The best of four is the best of the four that the same seed gives.
    four = (await asked(api, raw=True, n=4, max_tokens=5))["choices"]
    body = await asked(api, raw=True, best_of=4, max_tokens=5)
    assert [c["text"] for c in body["choices"]] == [max(four, key=mean)["text"]]
    assert body["usage"]["completion_tokens"] > 5

    # Several prompts, one of them as token ids, in a stream.
    fields = {"prompt": [[1, 262], [1, 263]], "max_tokens": 2, "stream": True, "echo": True}
    *chunks, done = (await api.post("/v1/completions", {**ASKED, **fields})).events()
    texts = [
        "".join(c["text"] for x in chunks for c in x["choices"] if c["index"] == i) for i in (0, 1)
    ]
    assert done == "[DONE]"
    assert [text[:4] for text in texts] == ["<s>b", "<s>c"]
