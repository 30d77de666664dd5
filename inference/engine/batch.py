"""The batch loop: many requests on one model, a token each per step.

New requests join and finished ones leave at every step; a prompt is computed in chunks beside the
others' tokens, so that a long one does not freeze them, and not at all as far as it is in the
cache. Every request that was added ends in exactly one Finished or Failed. Knows no sockets; time
is the monotonic clock.
"""

import logging
import secrets
import time
from typing import Final

from inference.engine.answer import Answer, Said
from inference.engine.logprobs import token_logprob
from inference.engine.model import (
    SCORED_TOKENS,
    Chunk,
    DecodeError,
    Model,
    UnusableInput,
)
from inference.engine.pace import PrefillPace
from inference.engine.prefix_cache import WORTH_KEEPING_TOKENS, Cells
from inference.engine.prompt import Prepared, kept_tokens
from inference.engine.runner_messages import Charge
from inference.engine.sequence import Job, Sequence
from inference.engine.slots import Slots
from inference.engine.strict_calls import StrictCalls
from inference.messages import (
    ChoiceEnded,
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    PromptScored,
    Started,
    Token,
    TokenLogprob,
)

logger = logging.getLogger(__name__)

# num_predict without a limit of its own: contract 5.
_ENDLESS_WINDOWS: Final = 10
# In one of so many steps the prompt that came first has half of the room before the shortest: no
# document waits for ever, and a question need not wait for one.
_FIRST_COME_STEPS: Final = 4


class BatchLoop:
    """All requests of one runner. Call `step` until `is_idle`."""

    def __init__(self, model: Model, *, parallel: int, store_bytes: int = 0) -> None:
        self._model = model
        self._slots = Slots(model, parallel=parallel, store_bytes=store_bytes)
        self._pace = PrefillPace()
        self._jobs: dict[str, list[Sequence]] = {}
        self._waiting: list[Sequence] = []
        self._active: list[Sequence] = []
        self._held: set[str] = set()
        self._events: list[Event] = []
        self._prompt_tokens: dict[str, int] = {}
        self._step_number = 0

    @property
    def is_idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not (self._active or self._events or any(map(self._may_join, self._waiting)))

    def add(self, prepared: Prepared) -> None:
        """Accept a request; it joins at the next step with a free slot."""
        request = prepared.request
        try:
            sequences = self._sequences(prepared)
        except UnusableInput as error:
            self._held.discard(request.request_id)
            self._refuse(request.request_id, FailureCode.BAD_REQUEST, str(error))
            return
        self._jobs[request.request_id] = sequences
        self._waiting += sequences

    def has(self, request_id: str) -> bool:
        """Whether a request was added and has not ended."""
        return request_id in self._jobs

    def cancel(self, request_id: str) -> None:
        """End a request, if it has not ended, with Failed(CANCELLED)."""
        self._fail(request_id, FailureCode.CANCELLED, "request canceled")

    def pause(self, request_id: str) -> None:
        """Take a request off its slots; what it has computed stays usable for it.

        Also before the request is added.
        """
        self._held.add(request_id)
        for sequence in self._jobs.get(request_id, ()):
            if sequence.slot >= 0:
                self._leave_slot(sequence)
                self._waiting.append(sequence)

    def resume(self, request_id: str) -> None:
        """Let a paused request join again; one that is never going to be added is forgotten."""
        self._held.discard(request_id)

    def step(self) -> tuple[list[Event], list[Charge]]:
        """Compute one batch; return the events since the last step and what was computed."""
        self._step_number += 1
        self._admit()
        self._compute_images()
        before = {id(s): s.sampled_tokens for s in self._active}
        computing = list(self._active)
        if plan := self._plan():
            self._compute(plan)
        charges = self._charges(computing, before)
        events, self._events = self._events, []
        return events, charges

    # ------------------------------------------------------------ joining

    def _sequences(self, prepared: Prepared) -> list[Sequence]:
        request, prompt = prepared.request, prepared.prompt
        sampling = request.sampling
        window = min(max(request.runner.num_ctx, 1), self._model.window_tokens)
        endless = _ENDLESS_WINDOWS * window
        most_tokens = min(sampling.num_predict or endless, endless)
        if request.scores_prompt and sampling.num_predict == 0:
            most_tokens = 0
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        job = Job(request, prompt, open_choices=request.choices)
        sequences = []
        for choice in range(request.choices):
            sampler = self._model.sampler(sampling, (seed + choice) & 0xFFFFFFFF)
            sampler.see(prompt.tokens)
            sequences.append(
                Sequence(
                    job=job,
                    choice=choice,
                    sampler=sampler,
                    answer=Answer(
                        self._model,
                        request,
                        form=prepared.output_format,
                        prompt_end=prepared.text_end,
                        constraint=prepared.constraints[choice] if prepared.constraints else None,
                        strict=StrictCalls(prepared.strict) if prepared.strict else None,
                    ),
                    most_tokens=most_tokens,
                    line=list(prompt.tokens),
                )
            )
        return sequences

    def _may_join(self, sequence: Sequence) -> bool:
        return sequence.job.request.request_id not in self._held

    def _admit(self) -> None:
        for sequence in list(self._waiting):
            if not self._slots.has_free:
                return
            if self._may_join(sequence) and not self._has_forerunner(sequence):
                self._waiting.remove(sequence)
                self._join(sequence)

    def _has_forerunner(self, sequence: Sequence) -> bool:
        """Whether another is just computing a prefix that this one can have for nothing soon."""
        job = sequence.job
        if job.needs_scores:
            return False
        promised = 0
        for other in self._active:
            if other.computed < len(other.line) - 1:
                cells = Cells(other.job.owner, other.line, other.job.prompt.own)
                common = cells.usable(job.owner, sequence.line, job.prompt.own)
                promised = max(promised, common if other.computed < common else 0)
        if promised < WORTH_KEEPING_TOKENS:
            return False
        there = self._slots.reusable(job.owner, job.prompt, sequence.line)
        return promised - there >= WORTH_KEEPING_TOKENS

    def _join(self, sequence: Sequence) -> None:
        job = sequence.job
        slot, reused = self._slots.acquire(job.owner, job.prompt, sequence.line)
        if job.needs_scores and reused:
            # Every token of the prompt has to give its logits.
            self._model.forget(slot)
            self._slots.cells[slot] = Cells(job.owner)
            reused = 0
        if job.needs_scores and sequence.choice == 0:
            job.scores.clear()  # a pause came between
        sequence.slot, sequence.computed = slot, reused
        self._active.append(sequence)
        if job.is_started:
            return
        job.is_started = True
        job.begun_ns = time.perf_counter_ns()
        job.cached_tokens = reused
        self._events.append(
            Started(
                request_id=job.request.request_id,
                prompt_tokens=len(job.prompt.tokens),
                cached_tokens=reused,
            )
        )

    # ------------------------------------------------------------ computing

    def _compute_images(self) -> None:
        """Put the next image of the first prompt that has come to one into its sequence."""
        for sequence in list(self._active):
            job = sequence.job
            image = job.prompt.images.get(sequence.computed)
            if image is None:
                continue
            try:
                position = job.prompt.position(sequence.computed)
                self._model.decode_image(sequence.slot, position, image)
            except DecodeError as error:
                self._fail(job.request.request_id, FailureCode.INTERNAL, _failure(error))
                return
            self._advance_to(sequence, sequence.computed + image.length)
            return

    def _plan(self) -> list[tuple[Sequence, Chunk]]:
        """Choose what goes into this step: every answer's next token, then prompts."""
        answering = [s for s in self._active if s.is_answering]
        plan = [(sequence, sequence.chunk(1)) for sequence in answering]
        chunk_tokens = self._pace.chunk_tokens(others_answer=bool(answering))
        room = min(self._model.batch_tokens - len(plan), chunk_tokens)
        scored = SCORED_TOKENS
        for sequence, share in self._prefilling(room):
            most = min(room, share, scored) if sequence.job.needs_scores else min(room, share)
            if most <= 0:
                continue
            chunk = sequence.chunk(most)
            plan.append((sequence, chunk))
            room -= len(chunk.tokens)
            scored -= len(chunk.tokens) if chunk.wants_all_logits else 0
        return plan

    def _prefilling(self, room: int) -> list[tuple[Sequence, int]]:
        """Return who has a prompt to compute, and how many of its tokens at most.

        The shortest go first; in some steps half of the room is for who came first.
        """
        found = [
            s for s in self._active if not s.is_answering and s.computed not in s.job.prompt.images
        ]
        shortest = sorted(found, key=_left)
        if not found or self._step_number % _FIRST_COME_STEPS:
            return [(sequence, room) for sequence in shortest]
        first = found[0]
        others = sum(map(_left, found)) - _left(first)
        share = max(1, room // 2, room - others)
        return [(first, share), *((s, room) for s in shortest if s is not first)]

    def _compute(self, plan: list[tuple[Sequence, Chunk]]) -> None:
        begun = time.perf_counter()
        try:
            rows = self._model.decode([chunk for _, chunk in plan])
        except DecodeError as error:
            logger.exception("a step of %d sequences failed", len(plan))
            for sequence, _ in plan:
                request_id = sequence.job.request.request_id
                self._fail(request_id, FailureCode.INTERNAL, _failure(error))
            return
        seconds = time.perf_counter() - begun
        answers = sum(sequence.is_answering for sequence, _ in plan)
        tokens = sum(len(chunk.tokens) for _, chunk in plan)
        self._pace.observe(tokens - answers, answers, seconds)
        for (sequence, chunk), row in zip(plan, rows, strict=True):
            if sequence.slot < 0:
                continue  # another answer of the same request has failed it
            self._advance_to(sequence, sequence.computed + len(chunk.tokens))
            if chunk.wants_all_logits:
                self._score(sequence, chunk, row)
            if chunk.wants_logits:
                self._choose(sequence, row)

    def _advance_to(self, sequence: Sequence, computed: int) -> None:
        job = sequence.job
        self._slots.grow(sequence.slot, sequence.line[sequence.computed : computed], job.prompt.own)
        fresh = min(computed, len(sequence.line) - len(sequence.said_tokens)) - sequence.computed
        if fresh > 0:
            request_id = job.request.request_id
            self._prompt_tokens[request_id] = self._prompt_tokens.get(request_id, 0) + fresh
        sequence.computed = computed

    def _score(self, sequence: Sequence, chunk: Chunk, row: int) -> None:
        """Note the log probabilities of the tokens that follow those of a chunk of the prompt."""
        job, model = sequence.job, self._model
        top = job.request.top_logprobs or 0
        tokens = job.prompt.tokens
        if not job.scores:
            job.scores.append(TokenLogprob(token=model.named_piece(tokens[0]), logprob=0.0))
        for offset in range(len(chunk.tokens)):
            following = sequence.computed - len(chunk.tokens) + offset + 1
            if following < len(tokens):
                logits = model.logits(row - len(chunk.tokens) + 1 + offset)
                job.scores.append(token_logprob(model, logits, tokens[following], top))
        if not job.needs_scores:
            request_id = job.request.request_id
            self._events.append(PromptScored(request_id=request_id, logprobs=tuple(job.scores)))

    # ------------------------------------------------------------ answering

    def _choose(self, sequence: Sequence, row: int) -> None:
        """Choose the next token of a sequence and take it in."""
        request, answer = sequence.job.request, sequence.answer
        if not sequence.most_tokens:
            self._finish(sequence, DoneReason.LENGTH)
            return
        logits = self._model.logits(row)
        top = request.top_logprobs
        plain = logits.copy() if top is not None and answer.changes_logits else logits
        try:
            token = answer.choose(sequence.sampler, logits)
        except DecodeError as error:
            self._fail(request.request_id, FailureCode.INTERNAL, _failure(error))
            return
        logprob = None if top is None else token_logprob(self._model, plain, token, top)
        self._take(sequence, token, logprob)

    def _take(self, sequence: Sequence, token: int, logprob: TokenLogprob | None) -> None:
        job = sequence.job
        job.first_token_ns = job.first_token_ns or time.perf_counter_ns()
        job.sampled_tokens += 1
        sequence.sampled_tokens += 1
        answer = sequence.answer
        if self._model.is_end(token):
            self._finish(sequence, DoneReason.STOP)
            return
        sequence.said_tokens.append(token)
        sequence.line.append(token)
        self._emit(sequence, answer.push(token, logprob))
        if answer.is_complete:
            self._finish(sequence, DoneReason.STOP)
        elif sequence.sampled_tokens >= sequence.most_tokens or self._has_no_room(sequence):
            self._finish(sequence, DoneReason.LENGTH)

    def _has_no_room(self, sequence: Sequence) -> bool:
        """Whether the window is full and cannot be shifted."""
        window = self._model.window_tokens
        if sequence.computed < window:
            return False
        request = sequence.job.request
        if not (request.shift and self._model.can_shift) or sequence.job.prompt.images:
            return True
        bos = self._model.adds_bos()
        keep = kept_tokens(request.sampling.num_keep, window, adds_bos=bos)
        drop = (window - keep) // 2
        if drop < 1:
            return True
        self._model.shift(sequence.slot, keep, drop)
        del sequence.line[keep : keep + drop]
        sequence.computed -= drop
        self._slots.shifted(sequence.slot, keep, sequence.line[: sequence.computed])
        return False

    # ------------------------------------------------------------ leaving

    def _emit(self, sequence: Sequence, said: Said) -> None:
        if any(said):
            self._events.append(
                Token(
                    request_id=sequence.job.request.request_id,
                    choice=sequence.choice,
                    text=said.text,
                    thinking=said.thinking,
                    tool_calls=said.tool_calls,
                    logprobs=said.logprobs,
                )
            )

    def _finish(self, sequence: Sequence, reason: DoneReason) -> None:
        self._emit(sequence, sequence.answer.close())
        self._leave_slot(sequence)
        sequence.sampler.close()
        job, request = sequence.job, sequence.job.request
        job.reasoning_tokens += sequence.answer.reasoning_tokens
        stop_sequence = sequence.answer.stop_sequence
        if request.choices > 1:
            self._events.append(
                ChoiceEnded(
                    request_id=request.request_id,
                    choice=sequence.choice,
                    reason=reason,
                    stop_sequence=stop_sequence,
                )
            )
        job.open_choices -= 1
        if job.open_choices:
            return
        del self._jobs[request.request_id]
        self._held.discard(request.request_id)
        tokens = (*job.prompt.tokens, *sequence.said_tokens) if request.wants_context else ()
        self._events.append(
            Finished(
                request_id=request.request_id,
                reason=reason,
                usage=job.usage(),
                context=tuple(token for token in tokens if token >= 0),
                stop_sequence=stop_sequence if request.choices == 1 else "",
            )
        )

    def _fail(self, request_id: str, code: FailureCode, message: str) -> None:
        sequences = self._jobs.pop(request_id, None)
        self._held.discard(request_id)
        if sequences is None:
            return
        for sequence in sequences:
            if sequence.slot >= 0:
                self._leave_slot(sequence, spoiled=code is FailureCode.INTERNAL)
            elif sequence in self._waiting:
                self._waiting.remove(sequence)
            else:
                continue  # this answer is complete
            sequence.sampler.close()
        self._refuse(request_id, code, message)

    def _refuse(self, request_id: str, code: FailureCode, message: str) -> None:
        self._events.append(Failed(request_id=request_id, code=code, message=message))

    def _leave_slot(self, sequence: Sequence, *, spoiled: bool = False) -> None:
        self._active.remove(sequence)
        if spoiled:
            self._slots.spoil(sequence.slot)
        else:
            self._slots.release(sequence.slot)
        sequence.slot = -1
        sequence.computed = 0

    def _charges(self, computing: list[Sequence], before: dict[int, int]) -> list[Charge]:
        """Return the tokens of this step for each request."""
        answered: dict[str, int] = {}
        for sequence in computing:
            new = sequence.sampled_tokens - before[id(sequence)]
            if new:
                request_id = sequence.job.request.request_id
                answered[request_id] = answered.get(request_id, 0) + new
        prompts, self._prompt_tokens = self._prompt_tokens, {}
        return [
            Charge(
                request_id=request_id,
                prompt_tokens=prompts.get(request_id, 0),
                completion_tokens=answered.get(request_id, 0),
            )
            for request_id in prompts | answered
        ]


def _left(sequence: Sequence) -> int:
    """Return how many tokens are to be computed before the next can be chosen."""
    return len(sequence.line) - sequence.computed


def _failure(error: DecodeError) -> str:
    return f"an error was encountered while running the model: {error}"
