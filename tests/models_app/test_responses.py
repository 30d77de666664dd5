"""Stored answers: who sees them, how long they stay, how much of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from models_app import responses
from models_app.errors import (
    ConversationTooLong,
    PreviousResponseNotFound,
    ResponseNotFound,
)
from models_app.models import StoredResponse, User
from models_app.responses import (
    ResponseRecord,
    delete_response,
    find_response,
    find_responses,
    keep_response,
    read_conversation,
)
from tests.conftest import principal_for

DAY_S = 86400.0


def keep(user: User, response_id: str, *, previous: str = "", size_bytes: int = 10) -> None:
    body = "b" * (size_bytes - 2)
    record = ResponseRecord(
        response_id=response_id, model_name="m", previous_id=previous, input="[]", body=body
    )
    keep_response(principal_for(user), record)


def age(response_id: str, seconds: float) -> None:
    then = timezone.now() - timedelta(seconds=seconds)
    StoredResponse.objects.filter(response_id=response_id).update(created_at=then)


def kept_ids() -> list[str]:
    return list(StoredResponse.objects.order_by("pk").values_list("response_id", flat=True))


def test_owner_finds_what_was_kept(alice: User) -> None:
    keep(alice, "resp_a")

    assert find_response(principal_for(alice), "resp_a").input == "[]"


def test_text_of_any_kind_comes_back_as_it_was(alice: User) -> None:
    text = '["\\u0000 \\ud83d\\ude00 \U0001f600"]'
    record = ResponseRecord(response_id="resp_a", model_name="m", input=text, body="{}")
    keep_response(principal_for(alice), record)

    assert find_response(principal_for(alice), "resp_a").input == text


@pytest.mark.parametrize("response_id", ["resp_\0", "resp_" + "a" * 100, "", "r\u2028"])
def test_text_that_can_be_no_id_is_not_found(alice: User, response_id: str) -> None:
    with pytest.raises(ResponseNotFound):
        find_response(principal_for(alice), response_id)
    with pytest.raises(PreviousResponseNotFound):
        read_conversation(principal_for(alice), response_id or "x")


def test_stranger_and_admin_do_not_find_it(alice: User, mallory: User, admin: User) -> None:
    keep(alice, "resp_a")

    for other in (mallory, admin):
        with pytest.raises(ResponseNotFound):
            find_response(principal_for(other), "resp_a")


def test_stranger_cannot_delete_it(alice: User, mallory: User) -> None:
    keep(alice, "resp_a")

    with pytest.raises(ResponseNotFound):
        delete_response(principal_for(mallory), "resp_a")
    assert kept_ids() == ["resp_a"]


def test_deleted_answer_is_gone(alice: User) -> None:
    keep(alice, "resp_a")
    delete_response(principal_for(alice), "resp_a")

    with pytest.raises(ResponseNotFound):
        delete_response(principal_for(alice), "resp_a")


def test_conversation_is_read_from_its_start(alice: User) -> None:
    keep(alice, "resp_a")
    keep(alice, "resp_b", previous="resp_a")
    keep(alice, "resp_other", previous="resp_a")
    keep(alice, "resp_c", previous="resp_b")
    found = read_conversation(principal_for(alice), "resp_c")

    assert [record.response_id for record in found] == ["resp_a", "resp_b", "resp_c"]


def test_conversation_takes_few_queries(alice: User, django_assert_max_num_queries: Any) -> None:
    keep(alice, "resp_0")
    for number in range(1, 30):
        keep(alice, f"resp_{number}", previous=f"resp_{number - 1}")

    with django_assert_max_num_queries(3):
        assert len(read_conversation(principal_for(alice), "resp_29")) == 30


def test_conversation_of_somebody_else_is_not_found(alice: User, mallory: User) -> None:
    keep(alice, "resp_a")

    with pytest.raises(PreviousResponseNotFound, match="resp_a"):
        read_conversation(principal_for(mallory), "resp_a")


def test_conversation_with_a_deleted_answer_is_not_found(alice: User) -> None:
    keep(alice, "resp_a")
    keep(alice, "resp_b", previous="resp_a")
    delete_response(principal_for(alice), "resp_a")

    with pytest.raises(PreviousResponseNotFound, match="resp_a"):
        read_conversation(principal_for(alice), "resp_b")


def test_conversation_can_be_too_long(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_CONVERSATION_LENGTH", 2)
    keep(alice, "resp_a")
    keep(alice, "resp_b", previous="resp_a")
    keep(alice, "resp_c", previous="resp_b")

    assert len(read_conversation(principal_for(alice), "resp_b")) == 2
    with pytest.raises(ConversationTooLong):
        read_conversation(principal_for(alice), "resp_c")


def test_conversation_can_be_too_large(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_CONVERSATION_BYTES", 100)
    keep(alice, "resp_a", size_bytes=60)
    keep(alice, "resp_b", previous="resp_a", size_bytes=60)

    with pytest.raises(ConversationTooLong):
        read_conversation(principal_for(alice), "resp_b")


def test_old_answer_is_not_found_even_before_it_is_deleted(alice: User, settings: Any) -> None:
    settings.RESPONSES_KEPT_S = DAY_S
    keep(alice, "resp_a")
    age("resp_a", DAY_S + 60)

    with pytest.raises(ResponseNotFound):
        find_response(principal_for(alice), "resp_a")


def test_old_answers_of_all_go_when_a_new_one_comes(alice: User, bob: User, settings: Any) -> None:
    settings.RESPONSES_KEPT_S = DAY_S
    keep(bob, "resp_a")
    keep(bob, "resp_b")
    age("resp_a", DAY_S + 60)
    keep(alice, "resp_c")

    assert kept_ids() == ["resp_b", "resp_c"]


def test_answers_are_kept_for_ever_where_the_site_wants_it(alice: User, settings: Any) -> None:
    settings.RESPONSES_KEPT_S = float("inf")
    keep(alice, "resp_a")
    age("resp_a", 3650 * DAY_S)
    keep(alice, "resp_b")

    assert find_response(principal_for(alice), "resp_a").response_id == "resp_a"


def test_nothing_is_stored_where_nothing_is_kept(alice: User, settings: Any) -> None:
    settings.RESPONSES_KEPT_S = 0.0
    keep(alice, "resp_a")

    assert kept_ids() == []


def test_oldest_answers_of_the_owner_go_where_there_are_too_many(
    alice: User, bob: User, settings: Any
) -> None:
    settings.RESPONSES_BYTES = 250
    keep(bob, "resp_bob", size_bytes=100)
    for name in ("resp_a", "resp_b", "resp_c"):
        keep(alice, name, size_bytes=100)

    assert kept_ids() == ["resp_bob", "resp_b", "resp_c"]


def test_newest_answer_stays_whatever_its_size(alice: User, settings: Any) -> None:
    settings.RESPONSES_BYTES = 50
    keep(alice, "resp_a", size_bytes=40)
    keep(alice, "resp_b", size_bytes=100)

    assert kept_ids() == ["resp_b"]


def test_answers_go_with_their_owner(alice: User) -> None:
    keep(alice, "resp_a")
    alice.delete()

    assert kept_ids() == []


def test_named_answers_are_found_in_few_queries(
    alice: User, bob: User, django_assert_num_queries: Any
) -> None:
    for number in range(10):
        keep(alice, f"resp_{number}")
    keep(bob, "resp_b")
    wanted = {*kept_ids(), "resp_nowhere"}

    with django_assert_num_queries(2):
        found = find_responses(principal_for(alice), wanted)
    assert {record.response_id for record in found} == wanted - {"resp_b", "resp_nowhere"}


def test_named_answers_can_be_too_large(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_CONVERSATION_BYTES", 100)
    keep(alice, "resp_a", size_bytes=60)
    keep(alice, "resp_b", size_bytes=60)

    assert len(find_responses(principal_for(alice), {"resp_a"})) == 1
    with pytest.raises(ConversationTooLong):
        find_responses(principal_for(alice), {"resp_a", "resp_b"})


def test_answer_of_an_owner_who_is_gone_is_not_kept(alice: User) -> None:
    owner = principal_for(alice)
    alice.delete()
    record = ResponseRecord(response_id="resp_a", model_name="m", input="[]", body="{}")
    keep_response(owner, record)

    assert kept_ids() == []
