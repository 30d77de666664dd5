"""The official `ollama` Python client against a really listening site."""

import asyncio
from collections.abc import Iterator

import ollama
import pytest

from inference.messages import Cancel, FailureCode, Generate, Token, TokenLogprob
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script

HELLO = [{"role": "user", "content": "Hello"}]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def client(site: RunningSite) -> Iterator[ollama.Client]:
    client = ollama.Client(host=site.url, headers=bearer(site.key))
    yield client
    client._client.close()


def test_list_shows_the_models(client: ollama.Client, model: str) -> None:
    [found] = client.list().models

    assert found.model == model


def test_show_tells_about_a_model(client: ollama.Client, model: str) -> None:
    shown = client.show(model)

    assert shown.details is not None
    assert shown.details.format == "gguf"
    assert shown.modelinfo


def test_generate_returns_the_text(client: ollama.Client, model: str) -> None:
    answer = client.generate(model, "Hello")

    assert (answer.response, answer.done_reason, answer.eval_count) == ("Hello.", "stop", 3)


def test_generate_streams_the_text(client: ollama.Client, model: str) -> None:
    parts = list(client.generate(model, "Hello", stream=True))

    assert [part.response for part in parts] == ["Hello", ".", ""]
    assert parts[-1].done


def test_schema_and_logprobs_go_both_ways(
    site: RunningSite, client: ollama.Client, model: str
) -> None:
    logprobs = (TokenLogprob(token=b"{}", logprob=-0.5),)
    site.node.scripts.append(Script(pieces=(Token(request_id="", text="{}", logprobs=logprobs),)))
    answer = client.chat(model, HELLO, format={"type": "object"}, logprobs=True)

    assert site.wait_for(Generate).json_schema == '{"type":"object"}'
    assert answer.logprobs is not None
    assert (answer.logprobs[0].token, answer.logprobs[0].logprob) == ("{}", -0.5)


def test_chat_returns_the_text(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, HELLO)

    assert (answer.message.role, answer.message.content) == ("assistant", "Hello.")


def test_chat_streams_the_text(client: ollama.Client, model: str) -> None:
    parts = list(client.chat(model, HELLO, stream=True))

    assert "".join(part.message.content or "" for part in parts) == "Hello."
    assert parts[-1].done_reason == "stop"


def test_loaded_model_is_in_ps(client: ollama.Client, model: str) -> None:
    client.generate(model, keep_alive="5m")
    [loaded] = client.ps().models

    assert (loaded.name, loaded.context_length) == (model, 4096)
    assert loaded.expires_at is not None


def test_missing_model_is_a_404(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("nope", HELLO)

    assert (caught.value.status_code, caught.value.error) == (404, "model 'nope' not found")


def test_missing_model_is_a_404_in_a_stream(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat("nope", HELLO, stream=True))

    assert caught.value.status_code == 404


def test_late_failure_raises(site: RunningSite, client: ollama.Client, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )

    with pytest.raises(ollama.ResponseError, match="gone"):
        list(client.generate(model, "x", stream=True))


def test_wrong_key_is_a_401(site: RunningSite, model: str) -> None:
    client = ollama.Client(host=site.url, headers=bearer("nonsense"))
    with client._client, pytest.raises(ollama.ResponseError) as caught:
        client.list()

    assert (caught.value.status_code, caught.value.error) == (401, "unauthorized")


def test_stream_that_is_given_up_cancels(
    site: RunningSite, client: ollama.Client, model: str
) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    stream = client.generate(model, "x", stream=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined] # it is a generator

    site.wait_for(Cancel)


def test_async_client_streams_many_at_once(site: RunningSite, model: str) -> None:
    async def text_of(client: ollama.AsyncClient) -> str:
        stream = await client.chat(model, HELLO, stream=True)
        return "".join([part.message.content or "" async for part in stream])

    async def main() -> list[str]:
        client = ollama.AsyncClient(host=site.url, headers=bearer(site.key))
        async with client._client:
            return await asyncio.gather(*(text_of(client) for _ in range(5)))

    assert asyncio.run(main()) == ["Hello."] * 5
