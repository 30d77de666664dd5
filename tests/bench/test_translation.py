"""The microbenchmark of the dialects: what it measures is what the views do."""

import pytest

from bench import report, translation
from bench.translation import Case, Cost
from inference.messages import Token
from inference.requests import ChatRequest, CompletionRequest
from tests.timing import takes_at_most

CASES = translation.cases()


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_body_becomes_a_whole_request(case: Case) -> None:
    asked = case.read(case.body)

    assert isinstance(asked, ChatRequest | CompletionRequest)
    if isinstance(asked, ChatRequest):
        assert len(asked.messages) >= 20
        assert len(asked.tools) == 5


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_chunk_has_the_text(case: Case) -> None:
    assert b" word" in case.writer()(Token(request_id="x", text=" word"))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_requests_and_chunks_take_no_longer_than_they_may(case: Case) -> None:
    # Twenty times as much as the targets, as other tests run beside this one: what grows with the
    # square of something is seen.
    write = case.writer()
    case.read(case.body)
    with takes_at_most(20 * 0.002):
        case.read(case.body)
    with takes_at_most(20 * 100 * 0.000_05):
        for _ in range(100):
            write(Token(request_id="x", text=" word"))


def test_the_table_says_whether_the_targets_are_met() -> None:
    quick = Cost(name="a", body_bytes=1000, request_s=(0.001, 0.002), chunk_s=(1e-5, 2e-5))
    slow = Cost(name="b", body_bytes=1000, request_s=(0.003, 0.004), chunk_s=(6e-5, 7e-5))

    text = translation.to_markdown([quick, slow])

    assert "| a | 1.0 | 1.00 | 2.00 | 10.0 | 20.0 |" in text
    assert "a request 3.00 (≤ 2: **missed**) ms" in text
    assert "a chunk 60.00 (≤ 50: **missed**) µs" in text


# They stream how far a job is, and generate nothing.
# Streams of jobs, and a file to take along: no tokens.
JOBS = {"api/create", "api/pull", "api/push", "api/jobs/<str:job_id>/events", "api/usage/export"}


def test_every_generating_route_is_measured() -> None:
    from ollamasite.openapi_routes import OPERATIONS

    streaming = {
        f"/{route}"
        for route, methods in OPERATIONS.items()
        for operation in methods.values()
        if operation.stream and route not in JOBS
    }

    assert {case.name for case in CASES} == streaming


def test_the_document_has_a_place_for_it() -> None:
    assert "<!-- bench:translation -->" in report.DOCUMENT.read_text()
