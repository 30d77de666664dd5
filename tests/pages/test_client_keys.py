"""The page of one's ed25519 keys: what it shows, what it takes, and who gets there."""

import re
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from models_app.client_keys import add_client_key
from models_app.keys import create_key
from models_app.models import ClientKey, User
from tests.fakes.ollama_key import OllamaKey
from tests.pages.test_signin import csrf_token

pytestmark = pytest.mark.django_db
PAGE = "/client-keys"


def post(client: Client, path: str = PAGE, **fields: str) -> Any:
    """Send a form of the page, as a browser would."""
    token = csrf_token(client.get(PAGE))
    return client.post(path, {"csrfmiddlewaretoken": token, **fields}, follow=True)


def text_of(page: Any) -> str:
    return " ".join(page.content.decode().split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client) -> None:
    assert browser.get(PAGE)["Location"] == "/signin?next=%2Fclient-keys"


def test_menu_leads_there(as_bob: Client) -> None:
    assert f'href="{PAGE}"' in as_bob.get("/home").content.decode()


def test_page_says_how_to_find_ones_key_and_how_to_use_it(as_bob: Client) -> None:
    shown = text_of(as_bob.get(PAGE, headers={"host": "lab.local:11434"}))

    assert "cat ~/.ollama/id_ed25519.pub" in shown
    assert "OLLAMA_AUTH=1 OLLAMA_HOST=http://lab.local:11434 ollama list" in shown
    assert "There is none yet." in shown


def test_pasted_line_is_registered_as_ones_own(as_bob: Client, bob: User) -> None:
    key = OllamaKey()
    page = post(as_bob, public_key=f" {key.line} bob@laptop\n", name="")

    assert page.redirect_chain == [(PAGE, 302)]
    assert "The key bob@laptop is registered." in text_of(page)
    added = ClientKey.objects.get()
    assert (added.owner, added.public_key) == (bob, key.blob)
    assert "never used" in text_of(page)


def test_what_is_wrong_stands_beside_the_field_with_what_was_typed(as_bob: Client) -> None:
    page = post(as_bob, public_key="ssh-rsa <b>AAAA", name="my laptop")

    assert page.status_code == 400
    assert "This is no ed25519 public key" in text_of(page)
    assert "ssh-rsa &lt;b&gt;AAAA" in text_of(page)
    assert 'value="my laptop"' in text_of(page)
    assert 'aria-describedby="id_public_key_error"' in text_of(page)
    assert 'id="id_public_key_error"' in text_of(page)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"public_key": "x"}, "public_key"),
        ({"public_key": OllamaKey().line, "name": "x" * 101}, "name"),
        ({"public_key": "", "name": "x" * 101}, "public_key"),
    ],
    ids=["key", "name", "both"],
)
def test_typing_goes_on_at_the_first_field_that_is_wrong(
    as_bob: Client, fields: dict[str, str], name: str
) -> None:
    [begun_at] = re.findall(
        r"<(?:input|textarea)[^>]*autofocus[^>]*>", text_of(post(as_bob, **fields))
    )

    assert f'name="{name}"' in begun_at


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Paste the public key."),
        ({"public_key": "x" * 5000}, "at most 4000 characters"),
        ({"public_key": "x", "name": "x" * 101}, "at most 100 characters"),
        ({"public_key": "a\x00b"}, "Null characters are not allowed."),
    ],
)
def test_bad_fields_are_told(as_bob: Client, fields: dict[str, str], sentence: str) -> None:
    page = post(as_bob, **fields)

    assert page.status_code == 400
    assert sentence in text_of(page)


def test_key_of_another_is_refused_without_a_name(as_bob: Client, alice: User) -> None:
    key = OllamaKey()
    add_client_key(alice, key.line)
    page = post(as_bob, public_key=key.line)

    assert "registered already" in text_of(page)
    assert "alice" not in text_of(page)


def test_one_sees_only_ones_own_keys(as_bob: Client, alice: User, bob: User) -> None:
    add_client_key(alice, OllamaKey().line, "the key of Alice")
    add_client_key(bob, OllamaKey().line, "the <i>key</i> of Bob")
    shown = text_of(as_bob.get(PAGE))

    assert "the &lt;i&gt;key&lt;/i&gt; of Bob" in shown
    assert "Alice" not in shown


def test_key_is_removed(as_bob: Client, bob: User) -> None:
    key = add_client_key(bob, OllamaKey().line)
    page = post(as_bob, f"{PAGE}/{key.pk}/remove")

    assert page.redirect_chain == [(PAGE, 302)]
    assert "The key is removed" in text_of(page)
    assert not ClientKey.objects.exists()


def test_key_of_another_is_not_there_to_remove(as_bob: Client, alice: User) -> None:
    key = add_client_key(alice, OllamaKey().line)

    assert post(as_bob, f"{PAGE}/{key.pk}/remove").status_code == 404
    assert ClientKey.objects.exists()


def test_nothing_is_changed_without_the_forms_token(as_bob: Client, bob: User) -> None:
    key = add_client_key(bob, OllamaKey().line)

    assert as_bob.post(PAGE, {"public_key": OllamaKey().line}).status_code == 403
    assert as_bob.post(f"{PAGE}/{key.pk}/remove").status_code == 403
    assert ClientKey.objects.get() == key


def test_link_cannot_remove_a_key(as_bob: Client, bob: User) -> None:
    key = add_client_key(bob, OllamaKey().line)
    answer = as_bob.get(f"{PAGE}/{key.pk}/remove")

    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert as_bob.put(PAGE).status_code in {403, 405}


def test_api_key_registers_no_other_key(browser: Client, bob: User) -> None:
    secret = create_key(bob, "all that Bob may")[1]

    assert browser.get(PAGE, headers={"authorization": f"Bearer {secret}"}).status_code == 403


def test_administrators_see_every_key_and_remove_it(as_alice: Client, bob: User) -> None:
    ContentType.objects.clear_cache()  # the admin's log refers to rows of this test's database
    key = add_client_key(bob, OllamaKey().line, "the key of Bob")
    path = f"/admin/models_app/clientkey/{key.pk}"
    token = csrf_token(as_alice.get(f"{path}/delete/"))

    assert "the key of Bob" in as_alice.get("/admin/models_app/clientkey/").content.decode()
    assert as_alice.get("/admin/models_app/clientkey/add/").status_code == 403
    as_alice.post(f"{path}/delete/", {"csrfmiddlewaretoken": token, "post": "yes"})
    assert not ClientKey.objects.exists()
