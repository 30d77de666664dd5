"""The admin's page of aliases: who gets there, what it writes and what it says of bad input."""

import re
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from models_app.aliases import set_alias
from models_app.keys import create_key
from models_app.models import Alias, User
from ollamasite.security_headers import ADMIN_CONTENT_SECURITY_POLICY
from tests.pages.catalogue import STARTER, add_model

LIST = "/admin/models_app/alias/"
ADD = f"{LIST}add/"


@pytest.fixture(autouse=True)
def _content_types() -> None:
    # The admin's log refers to them. Django remembers rows that went with another test's database.
    ContentType.objects.clear_cache()


@pytest.fixture
def starter(db: None) -> None:
    """The library's model."""
    add_model(STARTER)


def change_of(alias: Alias) -> str:
    return f"{LIST}{alias.pk}/change/"


def post(client: Client, path: str, **fields: str) -> Any:
    """Fill a form in and send it, as a browser would."""
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', client.get(path).content.decode())
    assert token
    return client.post(path, {"csrfmiddlewaretoken": token[1], **fields})


def errors_of(page: Any) -> dict[str, list[str]]:
    return dict(page.context["adminform"].form.errors)


@pytest.mark.parametrize("path", ["/admin", "/admin/", LIST, ADD, "/admin/login/", "/admin/none"])
def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None, path: str) -> None:
    assert browser.get(path)["Location"].startswith("/signin?next=%2Fadmin")


@pytest.mark.parametrize("path", ["/admin", "/admin/", LIST, ADD, "/admin/login/", "/admin/none"])
def test_administrators_pages_are_closed_to_others(as_bob: Client, path: str) -> None:
    assert as_bob.get(path).status_code == 403


def test_staff_that_does_not_run_the_site_stays_outside(browser: Client, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    browser.force_login(bob)

    assert browser.get("/admin/").status_code == 403


def test_key_opens_no_admin_page(browser: Client, alice: User) -> None:
    _, secret = create_key(alice, "laptop")
    answer = browser.get(LIST, headers={"Authorization": f"Bearer {secret}"})

    assert answer.status_code == 403


def test_short_address_leads_to_the_admin(as_alice: Client) -> None:
    assert as_alice.get("/admin")["Location"] == "/admin/"


def test_admin_has_a_content_security_policy_without_scripts_in_pages(as_alice: Client) -> None:
    policy = as_alice.get(ADD)["Content-Security-Policy"]

    assert policy == ADMIN_CONTENT_SECURITY_POLICY
    assert "script-src 'self' 'unsafe-eval';" in policy


def test_other_pages_keep_the_strict_policy(as_alice: Client) -> None:
    assert "unsafe" not in as_alice.get("/home")["Content-Security-Policy"]


@pytest.mark.usefixtures("starter")
def test_aliases_are_listed_with_their_models(as_alice: Client) -> None:
    set_alias("gpt-4o-mini", STARTER)
    page = as_alice.get(LIST).content.decode()

    assert "gpt-4o-mini:latest" in page
    assert STARTER in page


@pytest.mark.usefixtures("starter")
def test_alias_is_added(as_alice: Client) -> None:
    answer = post(as_alice, ADD, name="gpt-4o-mini", target=STARTER)
    alias = Alias.objects.get()

    assert (answer.status_code, answer["Location"]) == (302, LIST)
    assert (alias.name, alias.target) == ("gpt-4o-mini:latest", STARTER)


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize(
    ("name", "target", "wrong"),
    [
        ("", STARTER, {"name": ["This field is required."]}),
        ("gpt", "", {"target": ["This field is required."]}),
        ("a b", STARTER, {"name": ["'a b' is not the name of a model."]}),
        ("bob/gpt", STARTER, {"name": ["An alias has no namespace: write a name without '/'."]}),
        ("gpt", "missing", {"target": ["There is no model missing:latest."]}),
        ("TAKEN", STARTER, {"name": ["There is already an alias TAKEN:latest."]}),
        (
            STARTER,
            STARTER,
            {"name": [f"There is a model {STARTER} in the library, which comes first."]},
        ),
    ],
)
def test_form_says_what_is_wrong(
    as_alice: Client, name: str, target: str, wrong: dict[str, list[str]]
) -> None:
    set_alias("taken", STARTER)
    page = post(as_alice, ADD, name=name, target=target)

    assert (page.status_code, errors_of(page)) == (200, wrong)
    assert Alias.objects.count() == 1


@pytest.mark.usefixtures("starter")
def test_alias_is_pointed_elsewhere_and_keeps_its_name(as_alice: Client) -> None:
    add_model("other:7b")
    alias = set_alias("gpt", STARTER)
    answer = post(as_alice, change_of(alias), name="renamed", target="other:7b")

    assert answer.status_code == 302
    assert list(Alias.objects.values_list("pk", "name", "target")) == [
        (alias.pk, "gpt:latest", "other:7b")
    ]


@pytest.mark.usefixtures("starter")
def test_alias_cannot_be_pointed_at_nothing(as_alice: Client) -> None:
    alias = set_alias("gpt", STARTER)
    page = post(as_alice, change_of(alias), target="missing")

    assert errors_of(page) == {"target": ["There is no model missing:latest."]}


@pytest.mark.usefixtures("starter")
def test_alias_is_deleted_and_its_model_stays(as_alice: Client) -> None:
    alias = set_alias("gpt", STARTER)
    post(as_alice, f"{LIST}{alias.pk}/delete/", post="yes")

    assert not Alias.objects.exists()


@pytest.mark.usefixtures("starter")
def test_chosen_aliases_are_deleted_from_the_list(as_alice: Client) -> None:
    keys = [str(set_alias(name, STARTER).pk) for name in ("one", "two", "three")]
    post(as_alice, ADD, name="four", target=STARTER)
    token = as_alice.cookies["csrftoken"].value
    chosen = {"action": "delete_selected", "_selected_action": keys[:2], "post": "yes"}
    as_alice.post(LIST, {"csrfmiddlewaretoken": token, **chosen})

    assert set(Alias.objects.values_list("name", flat=True)) == {"three:latest", "four:latest"}


def test_form_without_its_token_writes_nothing(as_alice: Client, starter: None) -> None:
    answer = as_alice.post(ADD, {"name": "gpt", "target": STARTER})

    assert answer.status_code == 403
    assert not Alias.objects.exists()
