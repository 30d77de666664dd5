"""What all pages have around their content: lines of what was done, places for what went wrong."""

import re

from django.test import Client

from models_app.models import User


def test_line_of_what_was_done_is_shown_once_and_is_gone_then(as_alice: Client) -> None:
    token = re.search(r'value="([^"]{64})"', as_alice.get("/client-keys").content.decode())
    assert token
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    fields = {"csrfmiddlewaretoken": token[1], "public_key": key, "name": "<b>laptop</b>"}
    done = as_alice.post("/client-keys", fields, follow=True).content.decode()
    assert done.count("&lt;b&gt;laptop&lt;/b&gt; is registered") == 1
    assert 'class="message message-success"' in done
    assert "message-success" not in as_alice.get("/client-keys").content.decode()


def test_place_for_what_goes_wrong_is_on_every_page(browser: Client, db: None) -> None:
    assert 'aria-live="polite"' in browser.get("/signin").content.decode()


def test_shortcuts_lead_to_pages_that_are_there(as_bob: Client) -> None:
    text = as_bob.get("/home").content.decode()
    ways = re.findall(r'href="([^"]+)" data-go="(\w)"', text)
    assert ("/home", "h") in ways
    assert [as_bob.get(path).status_code for path, _ in ways] == [200] * len(ways)
    assert len({letter for _, letter in ways}) == len(ways)


def test_shortcuts_are_for_people_who_are_signed_in(browser: Client, bob: User) -> None:
    assert 'id="shortcuts"' not in browser.get("/signin").content.decode()


def test_program_whose_session_has_ended_is_told_so_in_json(browser: Client, bob: User) -> None:
    answer = browser.get("/home", headers={"accept": "*/*", "hx-request": "true"})
    assert answer.status_code == 401
    assert answer["Content-Type"].startswith("application/json")
