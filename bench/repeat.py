"""How often the same question gets the same answer: again, without the cache, beside others.

Every question has a seed; at temperature 0, and at a temperature where the seed matters. Knows no
engine.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import figures, load, prompts, report
from bench.chat import Question, Target
from bench.load import LoadError, Worker
from bench.servers import Shape, Site, SiteModel
from bench.workplace import MODELS

_SHAPE: Final = Shape(slots=16, window_tokens=2048)
_QUESTIONS: Final = 24
_TOKENS: Final = 64
_BESIDE: Final = 8
_FIRST: Final = "first"
_SECOND: Final = "second"
_THIRD: Final = "third"
_SAMPLINGS: Final[dict[str, dict[str, Any]]] = {
    "temperature 0": {"temperature": 0, "seed": 7},
    "temperature 0.8, seed": {"temperature": 0.8, "seed": 7},
}


@dataclass(frozen=True, slots=True)
class Repetition:
    """The answers of one way to ask, compared with those of asking one after the other."""

    sampling: str
    way: str
    same: int
    parted_at: Sequence[int]  # the first piece that differs, of those that do


def measure() -> list[Repetition]:
    """Measure. Raises ProcessError, LoadError."""
    model = MODELS[0]
    site = Site("repeat", _SHAPE, [SiteModel(model.name, model)], [_FIRST, _SECOND, _THIRD])
    try:
        site.start()
        site.load(model.name, _FIRST)
        return [
            found
            for sampling, options in _SAMPLINGS.items()
            for found in _compare(site, model.name, sampling, options)
        ]
    finally:
        site.stop()


def _compare(site: Site, model: str, sampling: str, options: dict[str, Any]) -> list[Repetition]:
    def target(user: str) -> Target:
        return Target(port=site.port, model=model, key=site.keys[user], extra=options)

    report.log(f"repeat: {sampling}")
    # Whoever is new finds nothing in the cache that they may use.
    reference = _ask(target(_FIRST), sampling, at_once=1)
    ways = {
        "alone again, prompt in the cache": _ask(target(_FIRST), sampling, at_once=1),
        "alone, nothing in the cache": _ask(target(_SECOND), sampling, at_once=1),
        f"{_BESIDE} at once, prompts in the cache": _ask(target(_FIRST), sampling, at_once=_BESIDE),
        f"{_BESIDE} at once, nothing in the cache": _ask(target(_THIRD), sampling, at_once=_BESIDE),
    }
    return [_repetition(sampling, way, reference, answers) for way, answers in ways.items()]


def _ask(target: Target, sampling: str, *, at_once: int) -> list[list[str]]:
    """Return the pieces of every question's answer, so many questions at a time."""
    found: list[list[str]] = []
    asked = [
        Question((prompts.short_question(f"{sampling} {number}"),), _TOKENS)
        for number in range(_QUESTIONS)
    ]
    for start in range(0, _QUESTIONS, at_once):
        workers = [Worker(target, [question]) for question in asked[start : start + at_once]]
        runs = asyncio.run(load.run(workers))
        found += [answer.pieces for (answer,) in runs]
    return found


def _repetition(
    sampling: str, way: str, reference: list[list[str]], answers: list[list[str]]
) -> Repetition:
    parted_at = [
        parting(first, second)
        for first, second in zip(reference, answers, strict=True)
        if first != second
    ]
    return Repetition(sampling, way, len(reference) - len(parted_at), parted_at)


def parting(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the index of the first piece in which two answers differ. Raises LoadError."""
    for index, (a, b) in enumerate(itertools.zip_longest(first, second)):
        if a != b:
            return index
    raise LoadError("the answers do not differ")


def to_markdown(found: Sequence[Repetition]) -> str:
    """Return the table."""
    rows = [
        [
            f"{one.sampling}; {one.way}",
            f"{one.same} of {_QUESTIONS}",
            f"{figures.median(one.parted_at):.0f}" if one.parted_at else "",
        ]
        for one in found
    ]
    head = ("asked how", "same answer", "else parted at piece (median)")
    return (
        f"{report.table(head, rows)}\n\n{MODELS[0].name}, {_QUESTIONS} questions, {_TOKENS} tokens "
        "each, compared with asking them one after the other with nothing in the cache."
    )
