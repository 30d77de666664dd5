"""A Model without llama.cpp: a byte is a token, and the answer repeats the prompt in capitals.

Like a real model, it is a function of the tokens in a sequence and of nothing else: an answer's
tokens are 256 above the bytes they repeat, so that the prompt can be told from the answer.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from inference.engine.model import Chunk, DecodeError, EncodedImage, Logits, UnusableInput
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
)
from inference.prompting.control_names import BoundaryTexts, ControlNames

END = 0
BOS = 4
_BYTES = 256
_VOCABULARY = 2 * _BYTES
_CERTAIN = 10.0
# Control tokens that a script can name.
TOKENS_WITHOUT_TEXT = {5: "<tool_call>", 6: "</tool_call>", 7: "<unseen>"}
_CONTROL_NAMES = ControlNames(["<end>", "<bos>"])


class FakeSampler:
    """Chooses the likeliest token; counts how often it was freed."""

    def __init__(self) -> None:
        self.closed = 0
        self.seen: list[int] = []

    def see(self, tokens: Sequence[int]) -> None:
        self.seen += tokens

    def choose(self, logits: Logits) -> int:
        assert not self.closed
        return int(np.argmax(logits))

    def close(self) -> None:
        self.closed += 1


class FakeConstraint:
    """Lets an answer consist of one byte, some number of times."""

    def __init__(self, byte: str, count: int = 3) -> None:
        self.token = _BYTES + ord(byte)
        self.left = count

    @property
    def is_complete(self) -> bool:
        return self.left == 0

    def apply(self, logits: Logits) -> None:
        kept = logits[self.token]
        logits[:] = -np.inf
        logits[self.token] = kept

    def accept(self, token: int) -> None:
        assert token == self.token
        self.left -= 1

    def accept_text(self, text: str) -> bool:
        if set(text) != {chr(self.token - _BYTES)} or len(text) > self.left:
            return False
        self.left -= len(text)
        return True

    def fresh(self) -> "FakeConstraint":
        return FakeConstraint(chr(self.token - _BYTES), self.left)


class FakeImage:
    """Three places for one image; the position moves on by two, as with M-RoPE."""

    def __init__(self, data: bytes) -> None:
        self.token = -1 - sum(data)
        self.length = 3
        self.positions = 2


class FakeVision:
    def encode(self, image: bytes, *, scope: str = "") -> FakeImage:
        del scope
        return FakeImage(image)

    def places(self, image: bytes, *, scope: str = "") -> int:
        return self.encode(image, scope=scope).length


class FakeModel:
    """Answers with the prompt's bytes in capitals, then the end token.

    With a `script` it says that instead, as it is; names in TOKENS_WITHOUT_TEXT are one token each.
    """

    def __init__(
        self,
        *,
        window_tokens: int = 256,
        batch_tokens: int = 32,
        sees: bool = False,
        script: str = "",
    ) -> None:
        for token, name in TOKENS_WITHOUT_TEXT.items():
            script = script.replace(name, chr(token))
        self.script = list(script.encode())
        self.window_tokens = window_tokens
        self.batch_tokens = batch_tokens
        self.size_bytes = 1
        self.size_vram_bytes = 0
        self.can_shift = True
        self.vision = FakeVision() if sees else None
        self.cells: dict[int, list[int]] = {}
        self.positions: dict[int, int] = {}
        self.batches: list[list[Chunk]] = []
        self.images: list[int] = []  # the sequences that got one
        self.samplers: list[FakeSampler] = []
        self.rows: dict[int, Logits] = {}
        self.fail_next = False
        self.fail_next_image = False
        self.can_keep = True
        self.has_bos = False
        self.fills: tuple[int, int, int] | None = (1, 2, 3)
        self.constraints: list[FakeConstraint] = []
        self.shifts: list[tuple[int, int, int]] = []  # sequence, keep, drop
        self.saved: list[int] = []  # the sequences that were

    @property
    def computed_tokens(self) -> int:
        """How many tokens were computed so far."""
        return sum(len(chunk.tokens) for batch in self.batches for chunk in batch)

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        tokens = self.tokenize_part(text, parse_special=parse_special)
        return [BOS, *tokens] if self.has_bos and tokens[:1] != [BOS] else tokens

    def tokenize_part(self, text: str, *, parse_special: bool) -> list[int]:
        if parse_special:
            text = text.replace("<end>", chr(END)).replace("<bos>", chr(BOS))
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> str:
        if not all(map(self.has_token, tokens)):
            raise ValueError("a token id is outside the vocabulary")
        names = {END: b"<end>", BOS: b"<bos>"}
        return b"".join(names.get(t, bytes([t % _BYTES])) for t in tokens).decode()

    def has_token(self, token: int) -> bool:
        return 0 <= token < _VOCABULARY

    def piece(self, token: int) -> bytes:
        if token % _BYTES in TOKENS_WITHOUT_TEXT:
            return b""
        piece = bytes([token % _BYTES])
        return piece if self.script else piece.upper()

    def named_piece(self, token: int) -> bytes:
        name = TOKENS_WITHOUT_TEXT.get(token % _BYTES)
        if name is not None:
            return name.encode()
        return b"<end>" if token == END else self.piece(token)

    def is_end(self, token: int) -> bool:
        return token == END

    def adds_bos(self) -> bool:
        return self.has_bos

    def control_names(self) -> ControlNames:
        return _CONTROL_NAMES

    def boundary_texts(self) -> BoundaryTexts:
        return BoundaryTexts("<bos>", "<end>")

    def fill_tokens(self) -> tuple[int, int, int] | None:
        return self.fills

    def sampler(self, sampling: Sampling, seed: int) -> FakeSampler:
        del seed
        if not all(self.has_token(token) for token, _ in sampling.logit_bias):
            raise UnusableInput("logit_bias names a token outside the vocabulary")
        self.samplers.append(FakeSampler())
        return self.samplers[-1]

    def constraint(self, json_schema: str) -> FakeConstraint:
        if json_schema == "impossible":
            raise UnusableInput("the schema cannot be satisfied")
        self.constraints.append(FakeConstraint(json_schema))
        return self.constraints[-1]

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        if self.fail_next:
            self.fail_next = False
            raise DecodeError("out of luck")
        self.batches.append(list(chunks))
        assert sum(len(chunk.tokens) for chunk in chunks) <= self.batch_tokens
        self.rows.clear()
        rows: list[int] = []
        row = -1
        for chunk in chunks:
            assert chunk.tokens, "llama.cpp would answer from another sequence's row"
            for offset, token in enumerate(chunk.tokens):
                self._grow(chunk.sequence, chunk.start + offset, [token], 1)
                row += 1
                is_last = offset == len(chunk.tokens) - 1
                if chunk.wants_all_logits or (is_last and chunk.wants_logits):
                    self.rows[row] = self._logits_of(chunk.sequence)
            rows.append(row)
        return rows

    def decode_image(self, sequence: int, start: int, image: EncodedImage) -> None:
        if self.fail_next_image:
            self.fail_next_image = False
            raise DecodeError("nothing to be seen")
        self.images.append(sequence)
        self._grow(sequence, start, [image.token] * image.length, image.positions)

    def logits(self, row: int) -> Logits:
        return self.rows[row]

    def forget(self, sequence: int) -> None:
        self.cells.pop(sequence, None)
        self.positions.pop(sequence, None)

    def keep(self, sequence: int, positions: int) -> bool:
        if not self.can_keep:
            self.forget(sequence)
            return False
        cells = self.cells.get(sequence, [])
        images = sum(token < 0 for token in cells)
        assert positions <= len(cells), "nothing can be kept that is not there"
        if images == 0:
            self.cells[sequence] = cells[:positions]
        else:
            self._keep_with_images(sequence, positions)
        self.positions[sequence] = positions
        return True

    def shift(self, sequence: int, keep: int, drop: int) -> None:
        self.shifts.append((sequence, keep, drop))
        del self.cells[sequence][keep : keep + drop]
        self.positions[sequence] -= drop

    def save(self, sequence: int) -> bytes:
        self.saved.append(sequence)
        return msgspec.msgpack.encode((self.cells[sequence], self.positions[sequence]))

    def restore(self, sequence: int, state: bytes) -> bool:
        cells, position = msgspec.msgpack.decode(state)
        self.cells[sequence] = cells
        self.positions[sequence] = position
        return True

    def close(self) -> None:
        self.cells.clear()

    def _grow(self, sequence: int, start: int, tokens: list[int], positions: int) -> None:
        cells = self.cells.setdefault(sequence, [])
        at = self.positions.get(sequence, 0)
        assert start == at, "a chunk must follow what is in the cache"
        cells += tokens
        self.positions[sequence] = at + positions
        assert len(cells) <= self.window_tokens

    def _keep_with_images(self, sequence: int, positions: int) -> None:
        kept: list[int] = []
        at = 0
        cells = self.cells[sequence]
        while at < positions:
            step = 3 if cells[len(kept)] < 0 else 1
            kept += cells[len(kept) : len(kept) + step]
            at += 2 if step == 3 else 1  # see FakeImage
        self.cells[sequence] = kept

    def _logits_of(self, sequence: int) -> Logits:
        cells = self.cells[sequence]
        said = 0
        while said < len(cells) and cells[-1 - said] >= _BYTES:
            said += 1
        prompt = self.script or [t for t in cells[: len(cells) - said] if t >= 0 and t != BOS]
        logits = np.zeros(_VOCABULARY, dtype=np.float32)
        logits[_BYTES + prompt[said] % _BYTES if said < len(prompt) else END] = _CERTAIN
        return logits


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
