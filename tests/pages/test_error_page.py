"""The error page, which must also work where nothing is known of the caller."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from ollamasite import errors
from ollamasite.error_responses import to_response


def answer_to(error: errors.ServiceError) -> HttpResponse:
    return to_response(error, RequestFactory().get("/home", headers={"accept": "text/html"}))


@pytest.mark.parametrize(
    ("error", "heading"),
    [
        (errors.BadRequest(), "The request makes no sense"),
        (errors.Unauthenticated(), "Sign in first"),
        (errors.Forbidden(), "Not allowed"),
        (errors.NotFound(), "Page not found"),
        (errors.MethodNotAllowed(), "That does not work here"),
        (errors.BodyTooLarge(), "Too large"),
        (errors.ServiceError(), "Something broke on our side"),
    ],
)
def test_every_status_has_its_own_heading(error: errors.ServiceError, heading: str) -> None:
    answer = answer_to(error)
    assert answer.status_code == error.status
    text = " ".join(answer.content.decode().split())
    assert f"<h1>{heading}</h1>" in text
    assert f"<title> {heading} – ollamasite</title>" in text


def test_failure_of_ours_gives_the_line_to_report() -> None:
    text = answer_to(errors.ServiceError("internal server error (id 0123)")).content.decode()
    assert "internal server error (id 0123)" in text


def test_message_is_escaped() -> None:
    text = answer_to(errors.Forbidden("<script>alert(1)</script>")).content.decode()
    assert "<script>alert" not in text


def test_who_must_sign_in_is_led_there() -> None:
    assert (
        '<a class="button" href="/signin">' in answer_to(errors.Unauthenticated()).content.decode()
    )


def test_page_without_a_caller_has_no_account_menu() -> None:
    assert "data-menu" not in answer_to(errors.NotFound()).content.decode()
