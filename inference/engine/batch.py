"""The batch loop: many requests on one model, a token each per step.

New requests join and finished ones leave at every step; a prompt is computed in chunks beside the
others' tokens, so that a long one does not freeze them. Every request that was added ends in
exactly one Finished or Failed. Knows no sockets; time is the monotonic clock.
"""

import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from inference.engine.llama import Chunk, DecodeError, Model, Sampler
from inference.engine.prompt import PromptError, prompt_tokens
from inference.engine.text import TextStream
from inference.messages import (
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Started,
    Token,
    Usage,
)

logger = logging.getLogger(__name__)

# Prompt tokens in one step while others are answering.
PREFILL_CHUNK_TOKENS: Final = 128
# num_predict without a limit of its own: contract 5.
_ENDLESS_WINDOWS: Final = 10


@dataclass(slots=True)
class _Sequence:
    """One request in a slot of the KV cache."""

    request: Generate
    slot: int
    prompt: list[int]
    sampler: Sampler
    text: TextStream
    most_tokens: int
    begun_ns: int
    computed: int = 0  # tokens in the KV cache
    answer: list[int] = field(default_factory=list)
    sampled_tokens: int = 0  # answer plus an end token
    first_token_ns: int = 0

    @property
    def is_prefilling(self) -> bool:
        return self.computed < len(self.prompt)

    def chunk(self, most: int) -> Chunk:
        """Return what is to be computed next, at most `most` tokens of it."""
        if not self.is_prefilling:
            return Chunk(self.slot, self.computed, self.answer[-1:], wants_logits=True)
        end = min(len(self.prompt), self.computed + most)
        tokens = self.prompt[self.computed : end]
        return Chunk(self.slot, self.computed, tokens, wants_logits=end == len(self.prompt))

    def usage(self) -> Usage:
        """Return the counters as they are now."""
        now = time.perf_counter_ns()
        first = self.first_token_ns or now
        return Usage(
            prompt_tokens=len(self.prompt),
            prompt_eval_ns=first - self.begun_ns,
            completion_tokens=self.sampled_tokens,
            eval_ns=now - first,
        )


class BatchLoop:
    """All requests of one runner. Call `step` until `is_idle`."""

    def __init__(self, model: Model, *, parallel: int) -> None:
        self._model = model
        self._free = deque(range(parallel))
        self._waiting: deque[Generate] = deque()
        self._active: dict[str, _Sequence] = {}
        self._events: list[Event] = []

    @property
    def is_idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not (self._waiting or self._active or self._events)

    def add(self, request: Generate) -> None:
        """Accept a request; it joins at the next step with a free slot."""
        self._waiting.append(request)

    def cancel(self, request_id: str) -> None:
        """End a request, if it has not ended, with Failed(CANCELLED)."""
        if sequence := self._active.get(request_id):
            self._fail(sequence, FailureCode.CANCELLED, "request canceled")
            return
        for request in self._waiting:
            if request.request_id == request_id:
                self._waiting.remove(request)
                self._refuse(request_id, FailureCode.CANCELLED, "request canceled")
                return

    def step(self) -> list[Event]:
        """Compute one batch and return the events since the last step."""
        while self._waiting and self._free:
            self._admit(self._waiting.popleft())
        plan = self._plan()
        if plan:
            self._compute(plan)
        events, self._events = self._events, []
        return events

    def _admit(self, request: Generate) -> None:
        begun_ns = time.perf_counter_ns()
        try:
            prompt = prompt_tokens(self._model, request)
        except PromptError as error:
            self._refuse(request.request_id, error.code, error.message)
            return
        sampling = request.sampling
        window = min(max(request.runner.num_ctx, 1), self._model.window_tokens)
        endless = _ENDLESS_WINDOWS * window
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
        self._active[request.request_id] = _Sequence(
            request=request,
            slot=self._free.popleft(),
            prompt=prompt,
            sampler=self._model.sampler(sampling, seed),
            text=TextStream(sampling.stop),
            most_tokens=min(sampling.num_predict or endless, endless),
            begun_ns=begun_ns,
        )
        self._events.append(Started(request_id=request.request_id, prompt_tokens=len(prompt)))

    def _plan(self) -> list[tuple[_Sequence, Chunk]]:
        """Choose what goes into this step: every answer's next token, then prompts in order."""
        answering = [s for s in self._active.values() if not s.is_prefilling]
        plan = [(sequence, sequence.chunk(1)) for sequence in answering]
        room = self._model.batch_tokens - len(plan)
        if answering:
            room = min(room, PREFILL_CHUNK_TOKENS)
        for sequence in self._active.values():
            if room <= 0:
                break
            if sequence.is_prefilling:
                chunk = sequence.chunk(room)
                plan.append((sequence, chunk))
                room -= len(chunk.tokens)
        return plan

    def _compute(self, plan: list[tuple[_Sequence, Chunk]]) -> None:
        try:
            rows = self._model.decode([chunk for _, chunk in plan])
        except DecodeError as error:
            logger.exception("a step of %d sequences failed", len(plan))
            for sequence, _ in plan:
                message = f"an error was encountered while running the model: {error}"
                self._fail(sequence, FailureCode.INTERNAL, message)
            return
        for (sequence, chunk), row in zip(plan, rows, strict=True):
            sequence.computed += len(chunk.tokens)
            if chunk.wants_logits:
                self._advance(sequence, self._model.sample(sequence.sampler, row))

    def _advance(self, sequence: _Sequence, token: int) -> None:
        """Take the token that was chosen for a sequence."""
        if not sequence.sampled_tokens:
            sequence.first_token_ns = time.perf_counter_ns()
        sequence.sampled_tokens += 1
        if self._model.is_end(token):
            self._finish(sequence, DoneReason.STOP)
            return
        sequence.answer.append(token)
        self._emit(sequence, sequence.text.push(self._model.piece(token)))
        if sequence.text.has_stopped:
            self._finish(sequence, DoneReason.STOP)
        elif (
            sequence.sampled_tokens >= sequence.most_tokens
            or sequence.computed >= self._model.window_tokens
        ):
            self._finish(sequence, DoneReason.LENGTH)

    def _emit(self, sequence: _Sequence, text: str) -> None:
        if text:
            self._events.append(Token(request_id=sequence.request.request_id, text=text))

    def _finish(self, sequence: _Sequence, reason: DoneReason) -> None:
        self._emit(sequence, sequence.text.flush())
        request = sequence.request
        context = (*sequence.prompt, *sequence.answer) if request.wants_context else ()
        self._release(sequence)
        self._events.append(
            Finished(
                request_id=request.request_id,
                reason=reason,
                usage=sequence.usage(),
                context=context,
            )
        )

    def _fail(self, sequence: _Sequence, code: FailureCode, message: str) -> None:
        self._release(sequence)
        self._refuse(sequence.request.request_id, code, message)

    def _refuse(self, request_id: str, code: FailureCode, message: str) -> None:
        self._events.append(Failed(request_id=request_id, code=code, message=message))

    def _release(self, sequence: _Sequence) -> None:
        del self._active[sequence.request.request_id]
        self._model.forget(sequence.slot)
        sequence.sampler.close()
        self._free.append(sequence.slot)
