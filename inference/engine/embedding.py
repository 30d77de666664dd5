"""The embedding loop: inputs of many requests in one batch, a vector each.

Requests take turns input by input, so that one with a thousand inputs delays another by a batch at
most. Every request that was added ends in exactly one Finished or Failed. Knows no sockets, no
llama.cpp and no wire shape; time is the monotonic clock.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from inference.engine.model import DecodeError, LoadError, UnusableInput
from inference.engine.runner_messages import Charge
from inference.messages import (
    DoneReason,
    Embed,
    Embedded,
    Event,
    Failed,
    FailureCode,
    Finished,
    Usage,
)

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

# Texts for the client: contract 2.4.
TOO_LONG: Final = "the input length exceeds the context length"
NO_ROOM: Final = "input after truncation exceeds maximum context length"
NOT_FINITE: Final = "embedding contains NaN or Inf values"

# Only the head of a long text is kept, so only a head of it is tokenized: this many characters
# for each token at first, more where they turn out to be fewer tokens than the window has.
_CHARACTERS_PER_TOKEN: Final = 8
_SPARE_TOKENS: Final = 64


class Embedder(Protocol):
    """A loaded model that turns token sequences into vectors. One thread only."""

    window_tokens: int  # the most tokens of one input, special ones included
    batch_tokens: int  # the most tokens of one `encode` or `extend`
    max_sequences: int  # the most inputs of one `encode`
    front: list[int]  # special tokens that belong in front of every input
    back: list[int]  # and behind it

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text without `front` and `back`. Raises ValueError."""

    def has_token(self, token: int) -> bool:
        """Whether the id is one of the vocabulary."""

    def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """Return the inputs' pooled vectors, not normalized: (inputs, width). Raises DecodeError.

        No input may be empty.
        """

    def extend(self, tokens: Sequence[int], *, is_last: bool) -> Vectors | None:
        """Compute a part of the one input that is longer than a batch.

        Returns its vector, shape (width,), after the last part. Raises DecodeError, and then
        forgets the input. Needed only where `window_tokens` is over `batch_tokens`.
        """

    def abandon(self) -> None:
        """Forget the parts that were given to `extend` so far."""

    def close(self) -> None:
        """Free what it holds. The model's weights belong to somebody else."""


@dataclass(slots=True)
class _Job:
    """A request and how far it has come."""

    request: Embed
    begun_ns: int = field(default_factory=time.perf_counter_ns)
    planned: int = 0  # inputs that have been computed or are in the batch
    done: int = 0  # inputs whose vectors have been sent
    prompt_tokens: int = 0
    ready: list[int] | None = None  # tokens of the input that is next

    @property
    def has_inputs(self) -> bool:
        return self.planned < len(self.request.inputs)


@dataclass(slots=True)
class _LongInput:
    """The input that is being computed over several batches."""

    job: _Job
    tokens: list[int]
    computed: int = 0


class EmbedLoop:
    """All embedding requests of one runner. Call `step` until `is_idle`."""

    def __init__(self, make_embedder: Callable[[], Embedder]) -> None:
        """`make_embedder` is called for the first request; it may raise LoadError."""
        self._make_embedder = make_embedder
        self._made: Embedder | None = None
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._long: _LongInput | None = None
        self._is_longs_turn = False
        self._events: list[Event] = []

    @property
    def is_idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not (self._jobs or self._events)

    def add(self, request: Embed) -> None:
        """Accept a request; it takes part from the next step on."""
        self._jobs[request.request_id] = _Job(request)

    def cancel(self, request_id: str) -> None:
        """End a request, if it has not ended, with Failed(CANCELLED)."""
        if job := self._jobs.get(request_id):
            self._fail(job, FailureCode.CANCELLED, "request canceled")

    def step(self) -> tuple[list[Event], list[Charge]]:
        """Compute one batch; return the events since the last step and what was computed."""
        charges: list[Charge] = []
        if self._jobs and (embedder := self._embedder()):
            self._is_longs_turn = self._long is not None and not self._is_longs_turn
            plan = [] if self._is_longs_turn else self._plan(embedder)
            if plan:
                charges = self._compute(embedder, plan)
            elif self._long is not None:
                charges = self._go_on(embedder, self._long)
            self._finish_complete()
        events, self._events = self._events, []
        return events, charges

    def close(self) -> None:
        """Free the embedder."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def _embedder(self) -> Embedder | None:
        if self._made is None:
            try:
                self._made = self._make_embedder()
            except LoadError as error:
                for job in list(self._jobs.values()):
                    self._fail(job, FailureCode.LOAD_FAILED, str(error))
        return self._made

    # ------------------------------------------------------------ what comes next

    def _plan(self, embedder: Embedder) -> list[tuple[_Job, list[int]]]:
        """Choose the inputs of this step: one of each request in turn, while there is room.

        Another request is the first in every step, so each is certain of a whole batch some time.
        """
        self._jobs.move_to_end(next(iter(self._jobs)))
        plan: list[tuple[_Job, list[int]]] = []
        room = embedder.batch_tokens
        waiting = list(self._jobs.values())
        while waiting and room > 0:
            still_waiting = []
            for job in waiting:
                if len(plan) == embedder.max_sequences:
                    return plan
                tokens = self._take(embedder, job, room)
                if tokens:
                    plan.append((job, tokens))
                    room -= len(tokens)
                    still_waiting.append(job)
            waiting = still_waiting
        return plan

    def _take(self, embedder: Embedder, job: _Job, room: int) -> list[int] | None:
        """Return the tokens of a request's next input if they fit, and count it as planned."""
        is_busy = self._long is not None and self._long.job is job
        if is_busy or not job.has_inputs:
            return None
        if job.ready is None:
            try:
                job.ready = _tokens_of(embedder, job.request, job.planned)
            except UnusableInput as error:
                self._fail(job, FailureCode.BAD_REQUEST, str(error))
                return None
        tokens = job.ready
        if len(tokens) > embedder.batch_tokens and self._long is None and job.planned == job.done:
            self._long = _LongInput(job, tokens)
        elif len(tokens) <= room:
            job.planned += 1
            job.ready = None
            return tokens
        return None

    # ------------------------------------------------------------ computing

    def _compute(self, embedder: Embedder, plan: list[tuple[_Job, list[int]]]) -> list[Charge]:
        runs: dict[str, list[int]] = {}  # rows of the batch, by request
        for row, (job, _) in enumerate(plan):
            runs.setdefault(job.request.request_id, []).append(row)
        try:
            vectors = embedder.encode([tokens for _, tokens in plan])
        except DecodeError as error:
            logger.exception("a batch of %d inputs failed", len(plan))
            self._fail_computing([plan[rows[0]][0] for rows in runs.values()], error)
            return []
        charges = []
        for request_id, rows in runs.items():
            job = plan[rows[0]][0]
            computed = sum(len(plan[row][1]) for row in rows)
            job.prompt_tokens += computed
            charges.append(_charge(request_id, computed))
            self._send(job, vectors[rows])
        return charges

    def _go_on(self, embedder: Embedder, long: _LongInput) -> list[Charge]:
        """Compute one batch of an input that is longer than that."""
        job = long.job
        part = long.tokens[long.computed : long.computed + embedder.batch_tokens]
        is_last = long.computed + len(part) == len(long.tokens)
        try:
            vector = embedder.extend(part, is_last=is_last)
        except DecodeError as error:
            logger.exception("a part of a long input failed")
            self._fail_computing([job], error)
            return []
        long.computed += len(part)
        job.prompt_tokens += len(part)
        if vector is not None:
            self._long = None
            job.ready = None
            job.planned += 1
            self._send(job, vector[np.newaxis])
        return [_charge(job.request.request_id, len(part))]

    def _send(self, job: _Job, vectors: Vectors) -> None:
        """Send the vectors of the next inputs of a request."""
        if not np.isfinite(vectors).all():
            self._fail(job, FailureCode.BAD_REQUEST, NOT_FINITE)
            return
        if job.request.normalize:
            vectors = normalized(vectors)
        rows = tuple(row.tobytes() for row in vectors.astype("<f4"))
        request_id = job.request.request_id
        self._events.append(Embedded(request_id=request_id, first=job.done, vectors=rows))
        job.done += len(rows)

    # ------------------------------------------------------------ ends

    def _finish_complete(self) -> None:
        for job in list(self._jobs.values()):
            if job.done == len(job.request.inputs):
                self._finish(job)

    def _finish(self, job: _Job) -> None:
        request_id = job.request.request_id
        del self._jobs[request_id]
        usage = Usage(
            prompt_tokens=job.prompt_tokens,
            prompt_eval_ns=time.perf_counter_ns() - job.begun_ns,
        )
        self._events.append(Finished(request_id=request_id, reason=DoneReason.STOP, usage=usage))

    def _fail_computing(self, jobs: list[_Job], error: DecodeError) -> None:
        for job in jobs:
            message = f"an error was encountered while running the model: {error}"
            self._fail(job, FailureCode.INTERNAL, message)

    def _fail(self, job: _Job, code: FailureCode, message: str) -> None:
        request_id = job.request.request_id
        if self._jobs.pop(request_id, None) is None:
            return
        if self._long is not None and self._long.job is job:
            self._long = None
            if self._made is not None:
                self._made.abandon()
        self._events.append(Failed(request_id=request_id, code=code, message=message))


def _charge(request_id: str, tokens: int) -> Charge:
    return Charge(request_id=request_id, prompt_tokens=tokens, completion_tokens=0)


def normalized(vectors: Vectors) -> Vectors:
    """Return rows of length 1 (L2); zeros stay zeros."""
    # A float32 sum of squares overflows for components over 1e19.
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    scaled: Vectors = (wide / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
    return scaled


def _tokens_of(embedder: Embedder, request: Embed, index: int) -> list[int]:
    """Return what is computed for an input: framed, and cut to its head. Raises UnusableInput."""
    window = min(request.runner.num_ctx, embedder.window_tokens)
    front, back = embedder.front, embedder.back
    tokens = _unframed(_read(embedder, request.inputs[index], window), front, back)
    room = window - len(front) - len(back)
    if len(tokens) > room:
        if not request.truncate:
            raise UnusableInput(TOO_LONG)
        if room <= 0:
            raise UnusableInput(NO_ROOM)
        logger.info("an input is cut to its first %d tokens", room)
        tokens = tokens[:room]
    framed = [*front, *tokens, *back]
    if not framed:
        raise UnusableInput("an input without tokens has no embedding with this model")
    return framed


def _read(embedder: Embedder, value: str | tuple[int, ...], window: int) -> list[int]:
    if not isinstance(value, str):
        unknown = next((token for token in value if not embedder.has_token(token)), None)
        if unknown is not None:
            raise UnusableInput(f"token id {unknown} is not in the model's vocabulary")
        return list(value)
    try:
        return _head(embedder, value, window)
    except ValueError as error:
        raise UnusableInput(str(error)) from error


def _head(embedder: Embedder, text: str, window: int) -> list[int]:
    """Return the tokens of a text, or of a head of it that has more of them than the window."""
    enough = window + _SPARE_TOKENS
    size = enough * _CHARACTERS_PER_TOKEN
    while size < len(text):
        blank = text.rfind(" ", size // 2, size)
        tokens = embedder.tokenize(text[: blank if blank > 0 else size])
        if len(tokens) > enough:
            return tokens
        size *= 4
    return embedder.tokenize(text)


def _unframed(tokens: list[int], front: list[int], back: list[int]) -> list[int]:
    """Return the tokens without the special ones that the caller has put there already."""
    if front and tokens[: len(front)] == front:
        tokens = tokens[len(front) :]
    if back and tokens[-len(back) :] == back:
        tokens = tokens[: -len(back)]
    return tokens
