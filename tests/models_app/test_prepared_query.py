"""Tests of models_app.prepared_query: the rows are those that Django's own query gives."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Concat
from django.utils import timezone

from models_app.keys import KeyRules, create_key
from models_app.models import ApiKey, LimitRule, User
from models_app.permissions import Scope
from models_app.prepared_query import PreparedQuery

pytestmark = pytest.mark.django_db

_COLUMNS = ("pk", "name", "scopes", "networks", "expires_at", "owner__is_superuser", "has_limits")


@pytest.fixture
def rows(alice: User) -> Any:
    until = timezone.now() + timedelta(days=3)
    rules = KeyRules(scopes=(Scope.READ,), networks=("192.0.2.0/24",), expires_at=until)
    create_key(alice, "one", rules)
    create_key(alice, "two")
    limits = LimitRule.objects.filter(key=OuterRef("pk")).order_by()
    return ApiKey.objects.order_by().annotate(has_limits=Exists(limits)).values_list(*_COLUMNS)


def test_rows_are_as_djangos(rows: Any, django_assert_num_queries: Any) -> None:
    prepared = PreparedQuery(rows, "name")

    for name in ("one", "two", "one"):
        expected = [list(row) for row in rows.filter(name=name)]
        with django_assert_num_queries(1):
            assert prepared.ask(name) == expected
        assert len(expected) == 1


def test_value_that_is_not_there_gives_no_row(rows: Any) -> None:
    assert PreparedQuery(rows, "name").ask("none' OR 1=1 --") == []


def test_value_is_a_parameter(rows: Any) -> None:
    prepared = PreparedQuery(rows, "pk")

    assert [prepared.ask(pk)[0][0] for pk in rows.values_list("pk", flat=True)]
    assert prepared.ask(0) == []


def test_query_with_a_parameter_behind_the_value_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="last parameter"):
        PreparedQuery(rows.order_by(Concat("name", Value("x"))), "name").ask("one")
