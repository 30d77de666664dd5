"""Users who ask, read, think and ask again: a closed loop, as people are.

Whoever waits asks nothing else meanwhile, so the load is that of so many people and not of so many
requests a second. Knows no figures.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import httpx2

from ollamasite.load_test.asking import Answer, Api, Question, ask
from ollamasite.load_test.figures import Recorded, percentiles
from ollamasite.load_test.prompts import text_of, words_for

# Models load, caches fill and users find their places: this share of a run does not count.
_WARM_UP_SHARE: Final = 0.2
_MOST_WARM_UP_S: Final = 10.0
# Who is refused tries again after a while, as programs do that behave well.
_AFTER_FAILURE_S: Final = 1.0
_TICK_S: Final = 0.05
_TRIED_WORDS: Final = (40, 200)
_CONNECT_TIMEOUT_S: Final = 30.0


class LoadTestError(Exception):
    """The site does not even answer one question; the message says what came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What each user does. `think_s`: on average, between an answer and the next question."""

    url: str
    model: str
    keys: Sequence[str] = field(repr=False)  # users have them in turn
    api: Api = Api.OPENAI
    prompt_words: int = 100
    answer_tokens: int = 128
    think_s: float = 10.0
    duration_s: float = 60.0
    patience_s: float = 300.0  # for the next byte
    ca_file: str | None = None


class Users:
    """Runs of one load with as many users as are asked for. An asynchronous context manager."""

    def __init__(self, load: Load, seed: int = 1) -> None:
        self._load = load
        self._random = random.Random(seed)  # noqa: S311 - no secret
        # No two runs ask the same: the site would know it.
        self._seeds = itertools.count(time.time_ns() // 1000)
        self._client = httpx2.AsyncClient(
            base_url=load.url,
            timeout=httpx2.Timeout(load.patience_s, connect=_CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            verify=load.ca_file or True,
            trust_env=False,
        )

    async def __aenter__(self) -> "Users":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def size_prompts(self, tokens: int) -> None:
        """Have prompts be about so many tokens of this model. Raises LoadTestError."""
        few, many = _TRIED_WORDS
        tried = ((few, await self._tokens_of(few)), (many, await self._tokens_of(many)))
        self._load = replace(self._load, prompt_words=words_for(tokens, tried))

    async def run(self, count: int) -> Recorded:
        """Let so many users be there for the load's time, and return what they had of it."""
        now_s = time.monotonic()
        warm_up_s = min(_MOST_WARM_UP_S, self._load.duration_s * _WARM_UP_SHARE)
        run = Recorded(count, begin_s=now_s + warm_up_s, end_s=now_s + self._load.duration_s)
        cpu_s = time.process_time()
        lags: list[float] = []
        ticking = asyncio.create_task(_tick(lags))
        try:
            await asyncio.gather(*(self._live(number, run) for number in range(count)))
        finally:
            ticking.cancel()
        run.client_cpus = (time.process_time() - cpu_s) / (time.monotonic() - now_s)
        run.client_lag_s = percentiles(lags).p99 or 0.0
        return run

    async def _live(self, number: int, run: Recorded) -> None:
        """Be one user until the run is over; the last answer is heard to its end."""
        load = self._load
        # Not all at once at the beginning, which they never are.
        pause_s = self._random.uniform(0.0, min(load.think_s, load.duration_s / 4))
        while time.monotonic() + pause_s < run.end_s:
            await asyncio.sleep(pause_s)
            answer = await self._ask(number)
            run.answers.append(answer)
            pause_s = self._random.expovariate(1 / load.think_s) if load.think_s else 0.0
            if answer.failure:
                pause_s = max(pause_s, _AFTER_FAILURE_S)

    async def _ask(self, number: int) -> Answer:
        load = self._load
        question = Question(
            model=load.model,
            text=text_of(load.prompt_words, next(self._seeds)),
            max_tokens=load.answer_tokens,
            key=load.keys[number % len(load.keys)],
        )
        return await ask(self._client, load.api, question)

    async def _tokens_of(self, words: int) -> int:
        text = text_of(words, next(self._seeds))
        question = Question(model=self._load.model, text=text, max_tokens=1, key=self._load.keys[0])
        answer = await ask(self._client, self._load.api, question)
        if answer.failure:
            raise LoadTestError(
                f"{self._load.url} did not answer a first question: {answer.failure}"
            )
        return answer.prompt_tokens


async def _tick(lags_s: list[float]) -> None:
    """Note how much later than it should this event loop comes to things."""
    while True:
        due_s = time.monotonic() + _TICK_S
        await asyncio.sleep(_TICK_S)
        lags_s.append(time.monotonic() - due_s)
