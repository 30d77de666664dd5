"""Loads made of chats, and what they come to. Knows no server."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import figures
from bench.chat import Answer, Question, Target, ask


class LoadError(Exception):
    """A server did not do what the measurement needs; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Somebody who asks one question after the other, each when the last is answered."""

    target: Target
    questions: Iterable[Question]
    pause_s: float = 0.0  # after each answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run in numbers. Gaps are the times between the pieces of one answer."""

    tokens_per_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    gap_p50_s: float
    gap_p99_s: float
    prompt_tokens: int
    completion_tokens: int


async def run(workers: Sequence[Worker], *, duration_s: float | None = None) -> list[list[Answer]]:
    """Let all work at once until they are through, or for a time; return each one's answers.

    What is unfinished when the time is over is cut off; `Answer.is_complete` tells. Raises
    LoadError.
    """
    if not workers:
        return []
    done: list[list[Answer]] = [[] for _ in workers]
    tasks = [
        asyncio.create_task(_work(worker, answers))
        for worker, answers in zip(workers, done, strict=True)
    ]
    finished, unfinished = await asyncio.wait(tasks, timeout=duration_s)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    for task in finished:
        task.result()
    return done


def summarize(answers: Sequence[Answer]) -> Summary:
    """Return the numbers of a run that went from the first question to the last piece."""
    begin_ns = min(answer.sent_ns for answer in answers)
    end_ns = max(answer.arrivals_ns[-1] for answer in answers)
    tokens = sum(answer.completion_tokens for answer in answers)
    firsts_s = [answer.first_s for answer in answers]
    gaps_s = [gap for answer in answers for gap in answer.gaps_s]
    return Summary(
        tokens_per_s=tokens / ((end_ns - begin_ns) / 1e9),
        ttft_p50_s=figures.median(firsts_s),
        ttft_p95_s=figures.percentile(firsts_s, 95),
        gap_p50_s=figures.median(gaps_s),
        gap_p99_s=figures.percentile(gaps_s, 99),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=tokens,
    )


def pieces_between(answers: Iterable[Answer], begin_ns: int, end_ns: int) -> int:
    """Return how many pieces arrived in a window of time."""
    return sum(begin_ns <= moment < end_ns for answer in answers for moment in answer.arrivals_ns)


async def _work(worker: Worker, answers: list[Answer]) -> None:
    for question in worker.questions:
        answer = Answer()
        answers.append(answer)
        await ask(worker.target, question, answer)
        if answer.failure or not answer.arrivals_ns:
            raise LoadError(f"{worker.target.model}: {answer.failure or 'an empty answer'}")
        if worker.pause_s:
            await asyncio.sleep(worker.pause_s)
