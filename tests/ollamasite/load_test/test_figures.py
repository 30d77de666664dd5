"""Tests of ollamasite.load_test.figures, limit, prompts and report: no server, no clock."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamasite.load_test import report
from ollamasite.load_test.asking import Answer
from ollamasite.load_test.figures import Percentiles, Recorded, Summary, percentiles, summarize
from ollamasite.load_test.limit import Limit, Targets, find_limit
from ollamasite.load_test.prompts import text_of, words_for


def made(sent_s: float, *arrivals_s: float, failure: str = "", tokens: int = 0) -> Answer:
    answer = Answer(sent_s, list(arrivals_s), completion_tokens=tokens or len(arrivals_s))
    answer.failure, answer.prompt_tokens, answer.queue_s = failure, 10, 0.5
    return answer


def summary(users: int, ttft_s: float, itl_s: float = 0.01, failed: int = 0) -> Summary:
    return Summary(
        users=users,
        requests=100,
        failures={"HTTP 503": failed} if failed else {},
        ttft_s=Percentiles(ttft_s / 2, ttft_s, ttft_s),
        itl_s=Percentiles(itl_s / 2, itl_s, itl_s),
        queue_s=Percentiles(),
        tokens_per_s=100.0,
        prompt_tokens=128.0,
        completion_tokens=64.0,
    )


def test_percentiles_of_known_series() -> None:
    assert percentiles([float(number) for number in range(101)]) == Percentiles(50, 95, 99)
    assert percentiles([3.0]) == Percentiles(3, 3, 3)
    found = percentiles([4.0, 1.0, 2.0, 3.0])
    assert found.p50 == 2.5
    assert found.p95 == pytest.approx(3.85)
    assert percentiles([]) == Percentiles()


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_percentiles_rise_and_stay_within_what_was_measured(values: list[float]) -> None:
    found = percentiles(values)

    assert found.p50 is not None
    assert found.p95 is not None
    assert found.p99 is not None
    assert min(values) <= found.p50 <= found.p95 <= found.p99 <= max(values)


def test_only_what_began_within_the_window_counts() -> None:
    run = Recorded(3, begin_s=10, end_s=20)
    run.answers = [
        made(9, 9.5, 10.5),  # begun while everybody warmed up
        made(11, 12, 13, 15),
        made(12, 15, 16),
        made(13, failure="timed out"),
        made(20, 21),
    ]

    found = summarize(run)

    assert (found.users, found.requests, found.failures) == (3, 3, {"timed out": 1})
    assert found.ttft_s.p50 == 2.0
    assert found.itl_s.p50 == 1.0
    assert found.queue_s.p95 == 0.5
    assert found.completion_tokens == 2.5


def test_rate_is_of_tokens_that_arrived_within_the_window() -> None:
    run = Recorded(2, begin_s=10, end_s=20)
    # 3 of 4 pieces of 8 tokens are 6; a cut answer's pieces count as they are.
    run.answers = [
        made(9, 9.5, 10.5, 11, 12, tokens=8),
        made(19, 19.5, 20.5, failure="the connection was cut"),
    ]

    found = summarize(run)

    assert found.tokens_per_s == pytest.approx(0.7)
    assert found.tokens_per_s_and_user == pytest.approx(0.35)


async def _limit(serves: Callable[[int], bool], *, first: int = 1, most: int = 256) -> Limit:
    async def measure(users: int) -> Summary:
        return summary(users, 0.5 if serves(users) else 1.5)

    return await find_limit(measure, Targets(), first=first, most=most)


@pytest.mark.parametrize("most_served", [1, 2, 3, 7, 8, 13, 100, 255])
@pytest.mark.parametrize("first", [1, 8])
async def test_limit_is_found_to_an_eighth(most_served: int, first: int) -> None:
    limit = await _limit(lambda users: users <= most_served, first=first)

    assert limit.good is not None
    assert limit.good.users <= most_served
    assert limit.bad is not None
    assert limit.bad.users > most_served
    assert limit.bad.users - limit.good.users <= max(1, limit.good.users // 8)
    assert len(limit.steps) <= 12


async def test_limit_that_is_never_reached_ends_at_the_most() -> None:
    limit = await _limit(lambda _: True, most=20)

    assert [step.users for step in limit.steps] == [1, 2, 4, 8, 16, 20]
    assert limit.bad is None


async def test_site_that_serves_nobody_is_told_so() -> None:
    limit = await _limit(lambda _: False, first=4)

    assert [step.users for step in limit.steps] == [4, 2, 1]
    assert report.verdict("m", limit, Targets(), 10).startswith(
        "This server does not serve even one user of m"
    )


@pytest.mark.parametrize(
    "found",
    [summary(4, 1.1), summary(4, 0.9, itl_s=0.2), summary(4, 0.1, failed=2)],
    ids=["first token late", "tokens slow", "two in a hundred fail"],
)
def test_each_target_can_be_missed(found: Summary) -> None:
    assert Targets().are_met(summary(4, 0.9, failed=1))
    assert not Targets().are_met(found)


def test_run_without_an_answer_meets_nothing() -> None:
    assert not Targets().are_met(summarize(Recorded(1, begin_s=0, end_s=1)))


def test_words_are_counted_from_two_tries() -> None:
    # 1.5 tokens a word and 7 around them
    assert words_for(157, ((40, 67), (200, 307))) == 100
    assert words_for(1, ((40, 67), (200, 307))) == 1
    assert words_for(50, ((40, 0), (200, 0))) == 50


def test_no_two_texts_begin_alike() -> None:
    texts = [text_of(20, seed) for seed in range(200)]

    assert len({text.split()[0] for text in texts}) == 200
    assert {len(text.split()) for text in texts} == {len(texts[0].split())}


def test_verdict_tells_what_was_measured() -> None:
    limit = Limit(summary(12, 0.8), summary(16, 1.4), [summary(12, 0.8), summary(16, 1.4)])

    sentence = report.verdict("tiny", limit, Targets(), 10)

    assert sentence.startswith(
        "This server serves about 12 users of tiny at 95 of 100 first tokens"
    )
    assert "(measured: 800 and 10 ms; prompts of 128 and answers of 64 tokens, 10 s" in sentence
    assert sentence.endswith("16 users are too many.")


def test_table_has_a_line_for_each_run() -> None:
    lines = report.table([summary(1, 0.5), summary(2, 0.0012, failed=3)]).splitlines()

    assert [line.count("|") for line in lines] == [13] * 4
    assert lines[2].split("|")[1:5] == ["     1 ", "      100 ", "      0 ", "      250 "]
    assert lines[3].split("|")[5].strip() == "1.2"


def test_remarks_say_when_not_to_believe() -> None:
    busy = [replace(summary(1, 0.5), client_cpus=0.9)]
    few = [replace(summary(1, 0.5, failed=2), requests=5)]

    assert report.remarks([summary(1, 0.5)]) == []
    assert report.remarks(busy)[0].startswith("Not to be trusted: the measuring itself used 0.90")
    assert report.remarks(few)[0] == "Failed: 2 × HTTP 503."
    assert report.remarks(few)[1].startswith("Fewer than 20 requests")
