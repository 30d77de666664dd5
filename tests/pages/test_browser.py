"""The pages in a real browser, against a web process that really runs."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.pages.catalogue import LONG_NAME, STARTER
from tests.pages.live_site import LiveSite
from tests.pages.visits import DESK, Chromium, Visit, every_look, only_look, walk

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# What a page that is about to be left asks for, as the session is over.
ASKS_BY_ITSELF = "401.*/(home|jobs/strip)"


@pytest.fixture
def visit(chromium: Chromium, site: LiveSite) -> Iterator[Visit]:
    yield from walk(chromium, site)


@every_look
def test_way_from_sign_in_to_sign_out(visit: Visit) -> None:
    page = visit.page
    visit.sign_in()
    models = page.get_by_role("region", name="Your models")
    expect(models.get_by_role("rowheader", name=LONG_NAME)).to_be_visible()
    expect(page.get_by_role("region", name="In memory now")).to_contain_text(STARTER)
    page.locator("summary").click()
    visit.expects(ASKS_BY_ITSELF)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    visit.check()


@every_look
def test_pages_ask_no_other_site_for_anything(visit: Visit) -> None:
    visit.sign_in()
    assert len(visit.addresses) > 4
    assert all(url.startswith(visit.site.url) for url in visit.addresses)


@every_look
def test_no_page_is_wider_than_its_window(visit: Visit) -> None:
    visit.page.goto(f"{visit.site.url}/signin")
    assert visit.overflow_px() <= 0
    visit.sign_in()
    for client in ("curl", "ollama-python", "OpenAI SDK"):
        visit.page.get_by_text(client, exact=True).click()
        assert visit.overflow_px() <= 0
    visit.expects("404.*/no-such-page")
    for path in ("client-keys", "no-such-page"):
        visit.page.goto(f"{visit.site.url}/{path}")
        assert visit.overflow_px() <= 0


@only_look(DESK, "the window is its own")
def test_home_fits_into_the_narrowest_window(chromium: Chromium, site: LiveSite) -> None:
    for visit in walk(chromium, site, viewport={"width": 320, "height": 640}):
        visit.sign_in()
        assert visit.overflow_px() <= 0


@every_look
def test_text_stands_out_from_its_ground(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.site.url}/signin")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visit.check()
    visit.sign_in()
    page.locator("summary").click()
    visit.check()
    page.goto(f"{visit.site.url}/client-keys")
    visit.expects("400.*/client-keys|404.*/no-such-page")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("alert")).to_have_text("Paste the public key.")
    visit.check()
    page.goto(f"{visit.site.url}/no-such-page")
    visit.check()


def test_copy_button_puts_the_snippet_on_the_clipboard(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.sign_in()
    button = visit.page.get_by_role("button", name="Copy the curl command")
    visit.copy_with(button)
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == visit.page.locator("#chat-curl").text_content().strip()  # type: ignore[union-attr]
    assert f"{visit.site.url}/api/chat" in copied
    expect(button).to_have_text("Copy")


def test_copy_button_works_where_the_site_is_not_served_securely(visit: Visit) -> None:
    visit.expects("Cross-Origin-Opener-Policy")  # browsers take it from secure places alone
    lan_url = visit.site.url.replace("127.0.0.1", "models.internal")
    visit.sign_in(url=lan_url)
    assert visit.page.evaluate("window.isSecureContext") is False
    visit.page.get_by_text("OpenAI SDK", exact=True).click()
    button = visit.page.get_by_role("button", name="Copy the OpenAI SDK code")
    visit.copy_with(button)
    visit.page.evaluate("document.body.append(document.createElement('textarea'))")
    visit.page.locator("textarea").press("Control+V")
    expect(visit.page.locator("textarea")).to_have_value(re.compile(re.escape(f'="{lan_url}/v1"')))


def test_keyboard_goes_through_the_page_in_reading_order(visit: Visit) -> None:
    visit.sign_in()
    pages = visit.page.get_by_role("navigation", name="Pages").get_by_role("link")
    ways = pages.all_text_contents()
    order = []
    all_models = ["All"] if "Models" in ways else []
    for _ in range(10 + len(ways) + len(all_models)):
        visit.page.keyboard.press("Tab")
        order.append(visit.focused())
    assert order == [
        "Skip",
        "ollamasite",
        *ways,
        "A",  # the account menu, by its first word
        "now-queue",
        *all_models,
        "Make",
        "Copy the command that keeps the key",
        "The command that keeps the key",
        "client-curl",
        "Copy the curl command",
        "The curl command",
    ]


def test_keyboard_keeps_its_place_in_what_is_told_anew(visit: Visit) -> None:
    visit.sign_in()
    link = visit.page.get_by_role("region", name="Requests now").get_by_role("link", name="Queue")
    link.focus()
    link.evaluate("link => { link.dataset.old = '' }")
    visit.page.evaluate("htmx.trigger('#home-live', 'live')")
    expect(visit.page.locator("[data-old]")).to_have_count(0)
    expect(link).to_be_focused()


def test_skip_link_leads_past_the_header(visit: Visit) -> None:
    visit.sign_in()
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_text("Skip to the content")).to_be_in_viewport()
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#main")).to_be_focused()


def test_focus_can_be_seen(visit: Visit) -> None:
    visit.sign_in()
    for _ in range(10):
        visit.page.keyboard.press("Tab")
        outline = visit.page.evaluate(
            """() => {
                const at = document.activeElement;
                const shown = at.type === "radio" ? at.nextElementSibling : at;
                return getComputedStyle(shown).outlineWidth;
            }"""
        )
        assert outline == "2px", visit.focused()


def test_menu_is_opened_and_closed_by_keyboard(visit: Visit) -> None:
    visit.sign_in()
    visit.page.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    sign_out = visit.page.get_by_role("button", name="Sign out")
    expect(sign_out).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(sign_out).to_be_hidden()
    assert visit.focused() == "A"


def test_arrow_keys_choose_the_client(visit: Visit) -> None:
    visit.sign_in()
    visit.page.locator("#client-curl").focus()
    visit.page.keyboard.press("ArrowRight")
    expect(visit.page.locator("#chat-ollama")).to_be_visible()
    expect(visit.page.locator("#chat-curl")).to_be_hidden()


def test_time_until_a_model_leaves_counts_down(visit: Visit) -> None:
    visit.sign_in()
    counter = visit.page.locator("[data-countdown]")
    before = counter.text_content()
    expect(counter).not_to_have_text(str(before))
    expect(counter).to_contain_text("4 min")


def test_page_works_without_scripts(chromium: Chromium, site: LiveSite) -> None:
    for visit in walk(chromium, site, java_script_enabled=False):
        visit.sign_in()
        expect(visit.page.get_by_role("button", name="Copy the curl command")).to_be_hidden()
        visit.page.get_by_text("OpenAI SDK", exact=True).click()
        expect(visit.page.locator("#chat-openai")).to_be_visible()
        visit.page.locator("summary").click()
        visit.page.get_by_role("button", name="Sign out").click()
        expect(visit.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_name_is_kept_and_password_asked_again_after_a_mistake(visit: Visit) -> None:
    visit.page.goto(f"{visit.site.url}/signin")
    expect(visit.page.locator("#id_username")).to_be_focused()
    visit.page.get_by_label("User name").fill("alice")
    visit.page.get_by_label("Password").fill("wrong")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("do not match")
    expect(visit.page.get_by_label("User name")).to_have_value("alice")
    expect(visit.page.get_by_label("Password")).to_have_value("")
    expect(visit.page.locator("#id_password")).to_be_focused()
