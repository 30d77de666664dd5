"""Requests in the batch loop: a job is a request, a sequence is one of its answers. Plain state."""

import time
from dataclasses import dataclass, field

from inference.engine.answer import Answer
from inference.engine.model import Chunk, Sampler
from inference.engine.prefix_cache import Owner
from inference.engine.prompt import Prompt, cache_group
from inference.messages import Generate, TokenLogprob, Usage


@dataclass(slots=True, eq=False)
class Job:
    """A request and what its answers have in common."""

    request: Generate
    prompt: Prompt
    open_choices: int
    is_started: bool = False
    begun_ns: int = 0
    first_token_ns: int = 0
    cached_tokens: int = 0
    sampled_tokens: int = 0  # answers and end tokens
    reasoning_tokens: int = 0  # of those sampled for answers that have ended
    scores: list[TokenLogprob] = field(default_factory=list)  # of the prompt

    @property
    def owner(self) -> Owner:
        """Who may use its tokens again."""
        return Owner(cache_group(self.request), self.request.model.digest)

    @property
    def needs_scores(self) -> bool:
        """Whether the prompt's tokens still have to be scored."""
        return self.request.scores_prompt and len(self.scores) < len(self.prompt.tokens)

    def usage(self) -> Usage:
        """Return the counters as they are now."""
        now = time.perf_counter_ns()
        first = self.first_token_ns or now
        return Usage(
            prompt_tokens=len(self.prompt.tokens),
            prompt_eval_ns=first - (self.begun_ns or now),
            completion_tokens=self.sampled_tokens,
            eval_ns=now - first,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer. `line`: the tokens of its window, of which the first `computed` are in the cache.

    What is behind them is computed next; behind the last token stands the next one to be chosen.
    """

    job: Job
    choice: int
    sampler: Sampler
    answer: Answer
    most_tokens: int
    line: list[int]
    slot: int = -1  # not in the KV cache
    computed: int = 0
    said_tokens: list[int] = field(default_factory=list)  # the answer's, without the end
    sampled_tokens: int = 0  # with the end

    @property
    def is_answering(self) -> bool:
        """Whether one token is all that is to be computed next."""
        return bool(self.sampled_tokens) and self.computed == len(self.line) - 1

    def chunk(self, most: int) -> Chunk:
        """Return what is to be computed next, at most `most` tokens and none of an image."""
        images = (at for at in self.job.prompt.images if at > self.computed)
        end = min(len(self.line), self.computed + most, min(images, default=len(self.line)))
        return Chunk(
            self.slot,
            self.job.prompt.position(self.computed),
            self.line[self.computed : end],
            wants_logits=end == len(self.line),
            wants_all_logits=self.job.needs_scores and self.choice == 0,
        )
