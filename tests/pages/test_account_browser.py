"""Keys, teams, invites and oneself in a real browser, at a site that really runs."""

import re
import time
from typing import Final

import openai
import pytest
from playwright.sync_api import Page, expect

from tests.pages.catalogue import PASSWORD, STARTER
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, every_look, walk

pytestmark = [pytest.mark.slow, pytest.mark.beside]
# What a browser says of an answer that is meant.
MEANT: Final = "(Failed to load resource|Response Status Error Code).*(400|401|404)"


@pytest.fixture(scope="module")
def site(served: ServedSite) -> ServedSite:
    """The site, with people of this file."""
    for name in ("acc-kim", "acc-sid-390", "acc-sid-1440"):
        served.add_user(name)
    served.command("team", "create", "acc-team", "--owner", "acc-kim")
    return served


def client(site: ServedSite, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{site.url}/v1", api_key=secret, max_retries=0)


def answers_to(site: ServedSite, secret: str) -> bool:
    """Whether the official client gets something with a key."""
    try:
        client(site, secret).models.list()
    except openai.AuthenticationError:
        return False
    return True


def shown_secret(page: Page) -> str:
    return str(page.locator("#secret").text_content())


def test_key_is_made_copied_used_rotated_and_revoked(site: ServedSite, chromium: Chromium) -> None:
    name = f"laptop {chromium.look.name}"
    for visit in site.visit(chromium, "acc-kim", path="/keys"):
        page = visit.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("link", name=re.compile("make the first|New key")).first.click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_text("Narrow it further").click()
        page.get_by_label(STARTER).check()
        visit.check()
        page.get_by_role("button", name="Make the key").click()
        first = shown_secret(page)
        visit.check()
        visit.copy_with(page.get_by_role("button", name="Copy the key"))
        assert page.evaluate("navigator.clipboard.readText()") == first
        answer = client(site, first).chat.completions.create(
            model=STARTER, max_tokens=4, messages=[{"role": "user", "content": "Hello"}]
        )
        assert answer.usage is not None
        page.get_by_role("link", name="I have copied it").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        assert first not in page.content()

        page.get_by_label("The secret until now is good").select_option("for another hour")
        page.get_by_role("button", name="Rotate").click()
        second = shown_secret(page)
        assert answers_to(site, first)
        assert answers_to(site, second)

        page.get_by_role("link", name="I have copied it").click()
        page.get_by_text("Revoke …").click()
        visit.check()
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_text("The key is revoked")).to_be_visible()
        revoked_s = asked_s = time.monotonic()
        while answers_to(site, second):
            # However long the answer took: it was let in within a second.
            assert asked_s - revoked_s < 1
            asked_s = time.monotonic()
        assert answers_to(site, first)


def test_what_is_wrong_with_a_key_has_the_keyboard(site: ServedSite, chromium: Chromium) -> None:
    for visit in site.visit(chromium, "acc-kim", path="/keys/new"):
        page = visit.page
        expect(page.get_by_label("On which day")).to_be_hidden()
        page.get_by_label("It expires").select_option("at the end of a day …")
        expect(page.get_by_label("On which day")).to_be_visible()
        page.get_by_label("Name", exact=True).fill("desk")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Choose the day.")).to_be_visible()
        visit.expects("400")
        expect(page.get_by_label("On which day")).to_be_focused()
        expect(page.get_by_label("Name", exact=True)).to_have_value("desk")


def test_invite_is_used_by_somebody_new(site: ServedSite, chromium: Chromium) -> None:
    nora = f"acc-nora-{chromium.look.width}"
    for visit in site.visit(chromium, "acc-kim", path="/teams/acc-team"):
        page = visit.page
        page.get_by_text("Invite somebody").click()
        page.get_by_label("For whom it is").fill("Nora")
        page.get_by_role("button", name="Make a link").click()
        link = str(page.locator("#invite-link").text_content())
        visit.check()
        for other in walk(chromium, site):
            other.page.goto(link)
            expect(other.page.get_by_role("heading", name="Join acc-team")).to_be_visible()
            other.page.get_by_label("User name").fill(nora)
            other.page.get_by_label("Password", exact=True).fill(PASSWORD)
            other.page.locator("[name=again]").fill(PASSWORD)
            other.page.get_by_role("button", name="Make the account").click()
            other.page.wait_for_url("**/home")
        page.get_by_role("link", name="I have copied it").click()
        page.get_by_label(f"Role of {nora}", exact=True).select_option("maintainer")
        page.get_by_role("button", name=f"Change the role of {nora}").click()
        expect(page.get_by_text(f"The role of {nora} is changed.")).to_be_visible()
        page.get_by_label(f"Remove {nora} …", exact=True).click()
        visit.check()
        page.get_by_role("button", name=f"Remove {nora}", exact=True).click()
        expect(page.get_by_text(f"{nora} has left acc-team.")).to_be_visible()


def test_session_is_ended_elsewhere_then_data_taken_along_and_the_account_deleted(
    site: ServedSite, chromium: Chromium
) -> None:
    sid = f"acc-sid-{chromium.look.width}"
    for visit in walk(chromium, site):
        visit.sign_in(sid)
        for other in walk(chromium, site):
            other.sign_in(sid)
            # The page that is left open asks every few seconds what is new.
            other.expects("401")
            visit.page.goto(f"{site.url}/profile")
            visit.page.get_by_role("button", name="Sign out Chrome").click()
            expect(visit.page.get_by_text("The session is over")).to_be_visible()
            other.page.goto(f"{site.url}/profile")
            other.page.wait_for_url("**/signin?next=*")
            other.sign_in(sid)
            visit.page.get_by_text("Sign out everywhere else …").click()
            visit.check()
            visit.page.get_by_role("button", name="Sign out the others").click()
            expect(visit.page.get_by_text("You are signed out everywhere else.")).to_be_visible()
            other.page.reload()
            other.page.wait_for_url("**/signin?next=*")
        page = visit.page
        visit.expects(MEANT)
        with page.expect_download() as download:
            page.get_by_role("link", name="Download it").click()
        assert download.value.suggested_filename == f"{sid}.json"
        page.get_by_role("link", name="Delete the account").click()
        page.get_by_label("Type your user name").fill(sid)
        page.get_by_label("Your password").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The password is wrong.")).to_be_visible()
        visit.check()
        expect(page.get_by_label("Your password")).to_be_focused()
        page.get_by_label("Your password").fill(PASSWORD)
        page.get_by_role("button", name=f"Delete {sid}").click()
        expect(page.get_by_text("Your account is deleted")).to_be_visible()
        page.get_by_label("User name").fill(sid)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()


@every_look
def test_pages_fit_and_stand_out(site: ServedSite, chromium: Chromium) -> None:
    for visit in site.visit(chromium, "acc-kim", path="/keys"):
        page = visit.page
        for path in ("/keys", "/keys/new", "/teams/acc-team", "/invites", "/profile"):
            page.goto(f"{site.url}{path}")
            for summary in page.locator("main summary").all():
                summary.click()
            visit.check()
