"""Vectors from real files through llama.cpp: pooling, batches, and all-MiniLM-L6-v2 itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt
import pytest

from inference.engine.embedding import EmbedLoop, normalized
from inference.engine.llama.embedder import LlamaEmbedder, is_embedding_model
from inference.engine.llama.opening import load_weights
from inference.engine.runner_messages import OpenModel
from inference.messages import Embed, Embedded, Event, Failed, Finished, ModelRef, RunnerOptions
from tests.gguf_files import write_tiny_model
from tests.minilm import (
    CLS,
    SEP,
    TINY_WINDOW,
    reference_tokens,
    reference_vectors,
    write_minilm,
    write_tiny_bert,
)

SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A cheetah is running behind its prey.",
    "Llamas are members of the camelid family.",
    "why is the sky blue?",
    "x",
)
POOLINGS = gguf.PoolingType

Vectors = npt.NDArray[np.float32]


class Opened:
    """A file's weights and an embedder over them."""

    def __init__(self, path: Path, *, num_ctx: int = 4096, num_batch: int = 512) -> None:
        options = RunnerOptions(num_ctx=num_ctx, num_batch=num_batch)
        request = OpenModel(
            path=str(path), options=options, parallel=1, threads=1, use_extra_buffers=False
        )
        self.model = load_weights(request)
        self.embedder = LlamaEmbedder(self.model, options, threads=1)

    def framed(self, text: str) -> list[int]:
        e = self.embedder
        return [*e.front, *e.tokenize(text), *e.back]

    def vectors(self, *texts: str) -> Vectors:
        return normalized(self.embedder.encode([self.framed(text) for text in texts]))

    def run(self, *requests: Embed) -> list[Event]:
        """Return the events of a loop over requests that were all there at its start."""
        loop = EmbedLoop(lambda: self.embedder)
        for request in requests:
            loop.add(request)
        events: list[Event] = []
        while not loop.is_idle:
            events += loop.step()[0]
        return events

    def close(self) -> None:
        self.embedder.close()
        lib.llama_model_free(self.model)


@pytest.fixture(scope="session")
def minilm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_minilm(tmp_path_factory.mktemp("minilm") / "minilm.gguf")


@pytest.fixture(scope="module")
def minilm(minilm_path: Path) -> Iterator[Opened]:
    opened = Opened(minilm_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    opened = Opened(
        write_tiny_model(tmp_path_factory.mktemp("chat") / "chat.gguf"), num_ctx=512, num_batch=64
    )
    yield opened
    opened.close()


def tiny_bert(folder: Path, pooling: gguf.PoolingType | None) -> Vectors:
    """Return the tiny BERT's vector of one text."""
    opened = Opened(write_tiny_bert(folder / f"{pooling}.gguf", pooling))
    vector: Vectors = opened.vectors("some words")[0]
    opened.close()
    return vector


def embed(request_id: str, inputs: Sequence[str], **changes: object) -> Embed:
    return Embed(
        request_id=request_id,
        model=ModelRef(name="m:latest", digest="d" * 64, weights="w"),
        inputs=tuple(inputs),
        runner=RunnerOptions(num_ctx=4096),
        **changes,  # type: ignore[arg-type]
    )


def sent(events: Sequence[Event], request_id: str) -> Vectors:
    rows: list[bytes] = []
    for event in events:
        if isinstance(event, Embedded) and event.request_id == request_id:
            rows += event.vectors
    return np.stack([np.frombuffer(row, dtype="<f4") for row in rows])


def cosines(left: Vectors, right: Vectors) -> Vectors:
    """Return the cosine of each pair of rows."""
    found: Vectors = (normalized(left) * normalized(right)).sum(axis=-1)
    return found


# ---------------------------------------------------------------- all-MiniLM-L6-v2


@pytest.mark.slow
@pytest.mark.beside
def test_minilm_agrees_with_a_forward_pass_in_numpy(minilm: Opened) -> None:
    found = cosines(minilm.vectors(*SENTENCES), reference_vectors(SENTENCES))

    assert found.min() >= 0.999


@pytest.mark.slow
@pytest.mark.beside
@pytest.mark.parametrize("text", [*SENTENCES, "unbelievably, tokenization's (odd) re-use: 3.14!"])
def test_minilm_tokenizes_as_wordpiece(minilm: Opened, text: str) -> None:
    assert minilm.framed(text) == reference_tokens(text)


@pytest.mark.slow
@pytest.mark.beside
def test_minilm_finds_what_is_alike(minilm: Opened) -> None:
    food, bread, baby, cheetah = minilm.vectors(*SENTENCES[:4])

    # The first is the figure that the model's authors publish for this pair.
    assert food @ bread == pytest.approx(0.7553, abs=0.002)
    assert max(food @ baby, food @ cheetah) < 0.2


@pytest.mark.slow
@pytest.mark.beside
def test_many_inputs_are_what_they_are_alone(minilm: Opened) -> None:
    texts = [f"{SENTENCES[n % len(SENTENCES)]} number {n}" * (n % 5 + 1) for n in range(64)]

    together = sent(minilm.run(embed("r1", texts)), "r1")
    alone = np.concatenate([minilm.vectors(text) for text in texts])

    assert together.shape == (64, 384)
    assert cosines(together, alone).min() > 0.9999


@pytest.mark.slow
@pytest.mark.beside
def test_two_requests_at_once_get_their_own_vectors(minilm: Opened) -> None:
    events = minilm.run(embed("r1", SENTENCES[:3]), embed("r2", SENTENCES[3:]))

    expected = minilm.vectors(*SENTENCES)
    assert cosines(sent(events, "r1"), expected[:3]).min() > 0.9999
    assert cosines(sent(events, "r2"), expected[3:]).min() > 0.9999


@pytest.mark.slow
@pytest.mark.beside
def test_window_of_three_leaves_one_word(minilm: Opened) -> None:
    runner = RunnerOptions(num_ctx=3)
    request = embed("r1", ["why is the sky blue?"])
    cut = Embed(
        request_id="r1", model=request.model, inputs=request.inputs, runner=runner, truncate=True
    )

    assert cosines(sent(minilm.run(cut), "r1"), minilm.vectors("why")).min() > 0.9999


@pytest.mark.slow
@pytest.mark.beside
def test_long_text_counts_one_window_of_tokens(minilm: Opened) -> None:
    end = minilm.run(embed("r1", ["word " * 5000]))[-1]

    assert isinstance(end, Finished)
    assert end.usage.prompt_tokens == minilm.embedder.window_tokens == 512


@pytest.mark.slow
@pytest.mark.beside
def test_long_text_that_may_not_be_cut_is_refused(minilm: Opened) -> None:
    end = minilm.run(embed("r1", ["word " * 5000], truncate=False))[-1]

    assert isinstance(end, Failed)
    assert end.message == "the input length exceeds the context length"


@pytest.mark.slow
@pytest.mark.beside
def test_empty_text_is_its_special_tokens(minilm: Opened) -> None:
    assert minilm.framed("") == [CLS, SEP]
    assert minilm.vectors("").shape == (1, 384)


# ---------------------------------------------------------------- every kind of pooling


def test_every_pooling_yields_one_vector_of_the_models_width(tmp_path: Path) -> None:
    found = {pooling: tiny_bert(tmp_path, pooling) for pooling in [None, *POOLINGS]}

    assert {vector.shape for vector in found.values()} == {(32,)}
    assert all(np.linalg.norm(vector) == pytest.approx(1.0) for vector in found.values())


def test_poolings_differ(tmp_path: Path) -> None:
    mean, cls, last = (
        tiny_bert(tmp_path, pooling) for pooling in (POOLINGS.MEAN, POOLINGS.CLS, POOLINGS.LAST)
    )

    assert max(mean @ cls, mean @ last, cls @ last) < 0.999


@pytest.mark.parametrize("pooling", [None, POOLINGS.NONE])
def test_encoder_without_pooling_uses_the_mean(
    tmp_path: Path, pooling: gguf.PoolingType | None
) -> None:
    expected = tiny_bert(tmp_path, POOLINGS.MEAN)

    assert tiny_bert(tmp_path, pooling) == pytest.approx(expected, abs=1e-5)


def test_ranker_uses_what_its_classifier_reads(tmp_path: Path) -> None:
    expected = tiny_bert(tmp_path, POOLINGS.CLS)

    assert tiny_bert(tmp_path, POOLINGS.RANK) == pytest.approx(expected, abs=1e-5)


def test_window_is_never_longer_than_the_positions_of_the_model(tmp_path: Path) -> None:
    opened = Opened(write_tiny_bert(tmp_path / "m.gguf", POOLINGS.MEAN))

    end = opened.run(embed("r1", ["a " * 500]))[-1]
    opened.close()

    assert isinstance(end, Finished)
    assert end.usage.prompt_tokens == TINY_WINDOW


def test_bert_is_an_embedding_model(tmp_path: Path) -> None:
    opened = Opened(write_tiny_bert(tmp_path / "m.gguf", None))
    found = is_embedding_model(opened.model)
    opened.close()

    assert found


# ---------------------------------------------------------------- models that generate


def test_chat_model_is_no_embedding_model(chat_model: Opened) -> None:
    assert not is_embedding_model(chat_model.model)


def test_chat_model_embeds_with_its_last_state(chat_model: Opened) -> None:
    # The last state has seen the whole text: another beginning or another end changes it.
    same, start, end = (
        cosines(chat_model.vectors("hello world"), chat_model.vectors(text))[0]
        for text in ("hello world", "jello world", "hello worle")
    )

    assert same == pytest.approx(1.0, abs=1e-5)
    assert max(start, end) < 0.9999


def test_inputs_of_a_chat_model_do_not_see_each_other(chat_model: Opened) -> None:
    texts = ["hello world", "the sky", "why", "it is"]

    together = chat_model.vectors(*texts)
    alone = np.concatenate([chat_model.vectors(text) for text in texts])

    assert cosines(together, alone).min() > 0.99999


def test_input_in_parts_is_what_it_is_in_one(chat_model: Opened) -> None:
    tokens = chat_model.framed("the sky is blue and the world is")
    e = chat_model.embedder
    whole = e.encode([tokens])

    first = e.extend(tokens[:7], is_last=False)
    e.encode([tokens[3:]])  # others come in between
    last = e.extend(tokens[7:], is_last=True)

    assert first is None
    assert last is not None
    assert cosines(last[np.newaxis], whole)[0] > 0.99999


def test_abandoned_input_leaves_nothing_behind(chat_model: Opened) -> None:
    tokens = chat_model.framed("the sky is blue")
    e = chat_model.embedder
    e.extend(chat_model.framed("something else"), is_last=False)
    e.abandon()

    found = e.extend(tokens, is_last=True)

    assert found is not None
    assert cosines(found[np.newaxis], e.encode([tokens]))[0] > 0.99999


def test_chat_model_takes_inputs_up_to_its_window(chat_model: Opened) -> None:
    end = chat_model.run(embed("r1", ["the sky is blue " * 500, "why"]))[-1]

    assert isinstance(end, Finished)
    assert end.usage.prompt_tokens > chat_model.embedder.window_tokens == 512


@pytest.mark.parametrize("pooling", [POOLINGS.MEAN, POOLINGS.CLS, POOLINGS.LAST, POOLINGS.RANK])
def test_input_in_parts_is_pooled_over_all_of_it(tmp_path: Path, pooling: gguf.PoolingType) -> None:
    opened = Opened(write_tiny_model(tmp_path / "m.gguf", pooling=pooling), num_ctx=512)
    tokens = opened.framed("the sky is blue and the world is")
    e = opened.embedder
    whole = e.encode([tokens])[0]
    e.extend(tokens[:7], is_last=False)
    parts = e.extend(tokens[7:], is_last=True)
    opened.close()

    assert parts == pytest.approx(whole, rel=0.01, abs=0.01)
