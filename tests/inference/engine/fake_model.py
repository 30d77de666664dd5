"""A Model without llama.cpp: a byte is a token, and the answer repeats the prompt in capitals."""

from collections.abc import Sequence

from inference.engine.llama import Chunk, DecodeError
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
)

END = 0


class FakeSampler:
    """Counts how often it was freed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class FakeModel:
    """Answers with the prompt's bytes in capitals, then the end token."""

    def __init__(self, *, window_tokens: int = 256, batch_tokens: int = 32) -> None:
        self.window_tokens = window_tokens
        self.batch_tokens = batch_tokens
        self.size_bytes = 1
        self.size_vram_bytes = 0
        self.cells: dict[int, list[int]] = {}
        self.prompt_lengths: dict[int, int] = {}
        self.batches: list[list[Chunk]] = []
        self.samplers: list[FakeSampler] = []
        self.fail_next = False

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode()

    def piece(self, token: int) -> bytes:
        return bytes([token]).upper()

    def is_end(self, token: int) -> bool:
        return token == END

    def adds_bos(self) -> bool:
        return False

    def sampler(self, sampling: Sampling, seed: int) -> FakeSampler:
        del sampling, seed
        self.samplers.append(FakeSampler())
        return self.samplers[-1]

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        if self.fail_next:
            self.fail_next = False
            raise DecodeError("out of luck")
        self.batches.append(list(chunks))
        assert sum(len(chunk.tokens) for chunk in chunks) <= self.batch_tokens
        for chunk in chunks:
            cells = self.cells.setdefault(chunk.sequence, [])
            assert chunk.start == len(cells), "a chunk must follow what is in the cache"
            cells += chunk.tokens
            assert len(cells) <= self.window_tokens
            if chunk.wants_logits:
                self.prompt_lengths.setdefault(chunk.sequence, len(cells))
        return [chunk.sequence for chunk in chunks]

    def sample(self, sampler: FakeSampler, row: int) -> int:
        assert not sampler.closed
        cells = self.cells[row]
        said = len(cells) - self.prompt_lengths[row]
        return cells[said] if said < self.prompt_lengths[row] else END

    def forget(self, sequence: int) -> None:
        self.cells.pop(sequence, None)
        self.prompt_lengths.pop(sequence, None)

    def close(self) -> None:
        self.cells.clear()


def generate(
    request_id: str = "r1",
    text: str = "hello",
    *,
    messages: Sequence[ChatMessage] = (),
    num_ctx: int = 256,
    truncate: bool = True,
    weights: str = "w1",
    keep_alive_s: float | None = None,
    **sampling: object,
) -> Generate:
    """Return a request with the fields a test cares about."""
    prompt: ChatPrompt | RawPrompt = RawPrompt(text=text)
    if messages:
        template = "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"
        prompt = ChatPrompt(messages=tuple(messages), template=template)
    return Generate(
        request_id=request_id,
        model=ModelRef(name="tiny:latest", digest="d" * 64, weights=weights),
        runner=RunnerOptions(num_ctx=num_ctx),
        prompt=prompt,
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
        truncate=truncate,
        wants_context=True,
        keep_alive_s=keep_alive_s,
    )
