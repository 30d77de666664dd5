"""The pages of models in a browser, on a site that runs, with the starter model."""

import json
import os
import re
import subprocess

import pytest
from playwright.sync_api import Page, expect

from tests.pages.catalogue import STARTER
from tests.pages.served_site import ServedSite
from tests.pages.visits import DESK, Chromium, every_look

pytestmark = [pytest.mark.slow, pytest.mark.beside]

LOADS_WITHIN_MS = 180_000  # a busy machine takes its time to load a model
PATHS = (
    "/models",
    "/models?q=no-such-model",
    f"/models/{STARTER}",
    f"/models/{STARTER}/copy",
    f"/models/{STARTER}/delete",
    f"/models/{STARTER}/access",
)


def expect_said(page: Page, words: str) -> None:
    """Wait until the line says that this was done; before, it may say what was done before."""
    expect(page.locator("main .message")).to_have_text(words, timeout=LOADS_WITHIN_MS)


def test_model_is_found_as_one_types_and_opened_by_keyboard(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, path="/models"):
        page = visit.page
        search = page.get_by_role("searchbox", name="Search models")
        search.press_sequentially("zzz")
        expect(page.get_by_text("No model is like that.")).to_be_visible()
        visit.check()
        search.fill("")
        search.press_sequentially("smol")
        expect(page.get_by_role("link", name=STARTER)).to_be_visible()
        page.wait_for_url("**q=smol*")
        expect(search).to_be_focused()
        page.get_by_role("link", name=STARTER).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=STARTER)).to_be_visible()
        page.go_back()
        expect(page.get_by_role("searchbox", name="Search models")).to_have_value("smol")


def test_list_is_searched_without_script(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path="/models", java_script_enabled=False):
        page = visit.page
        page.get_by_role("searchbox", name="Search models").fill("zzz")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("No model is like that.")).to_be_visible()
        page.get_by_role("link", name="Show all").click()
        expect(page.get_by_role("link", name=STARTER)).to_be_visible()


def test_model_is_loaded_pinned_and_unloaded(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, "alice", path=f"/models/{STARTER}"):
        page = visit.page
        page.get_by_label("Keep it").select_option("3600")
        page.get_by_role("button", name=re.compile("^(Load|Keep)$")).click()
        expect_said(page, f"{STARTER} is in memory.")
        expect(page.locator("[data-countdown]")).to_contain_text(re.compile("59 min|1 h"))
        page.get_by_role("button", name="Pin").click()
        expect_said(page, "smollm2 stays in memory.")
        expect(page.get_by_text("In memory, pinned")).to_be_visible()
        visit.check()
        page.get_by_role("button", name="Unpin").click()
        expect_said(page, "smollm2 leaves memory like others.")
        page.get_by_role("button", name="Unload").click()
        expect(page.get_by_role("button", name="Load", exact=True)).to_be_visible()
        expect(page.get_by_text("Not in memory.")).to_be_visible()


def test_model_is_copied_and_deleted_once_its_name_is_typed(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, path=f"/models/{STARTER}"):
        page = visit.page
        visit.expects("(400|404) .*/models/")  # a wrong name, and a model that is gone
        page.get_by_role("link", name="Copy", exact=True).click()
        page.get_by_role("textbox", name="New name").fill("not a name")
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("textbox", name="New name")).to_be_focused()
        visit.check()
        page.get_by_role("textbox", name="New name").fill("walked:v1")
        page.keyboard.press("Enter")
        expect_said(page, f"{STARTER} is now bob/walked:v1 as well.")
        page.get_by_role("link", name="Delete").click()
        page.get_by_label("Type its name").fill("walked")
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_label("Type its name")).to_be_focused()
        expect(page.get_by_role("alert")).to_contain_text("This is not bob/walked:v1.")
        visit.check()
        page.get_by_label("Type its name").fill("bob/walked:v1")
        page.get_by_role("button", name="Delete").click()
        expect_said(page, "bob/walked:v1 is deleted.")
        page.goto(f"{served.url}/models/bob/walked:v1")
        expect(page.get_by_text("Page not found")).to_be_visible()


def test_copied_command_runs(served: ServedSite, chromium: Chromium) -> None:
    secret = re.search(r"osk-\S+", served.command("create-key", "bob"))
    assert secret
    permissions = ["clipboard-read", "clipboard-write"]
    for visit in served.visit(chromium, path=f"/models/{STARTER}", permissions=permissions):
        page = visit.page
        visit.copy_with(page.get_by_role("button", name="Copy the curl command"))
        command = page.evaluate("navigator.clipboard.readText()")
        page.get_by_text("OpenAI JS", exact=True).click()
        expect(page.locator("#code-js")).to_be_visible()
        expect(page.locator("#code-curl")).to_be_hidden()
    if chromium.look != DESK:  # a command is the same at every look
        return
    # As it was copied, but for the length of the answer: a small model may go on for minutes.
    short = command.replace('"stream": false', '"stream": false, "options": {"num_predict": 8}')
    done = subprocess.run(
        ["/bin/bash", "-c", short],
        env=os.environ | {"OLLAMASITE_API_KEY": secret[0], "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer = json.loads(done.stdout)
    assert answer.get("model") == STARTER, answer
    assert answer["message"]["content"]


def test_metadata_is_searched(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path=f"/models/{STARTER}"):
        page = visit.page
        page.get_by_role("searchbox", name="Search the metadata").fill("LLAMA.context")
        rows = page.locator("#metadata > div:visible")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("llama.context_length")


@every_look
def test_pages_fit_and_can_be_read(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, "alice", path=PATHS[0]):
        for path in PATHS:
            visit.page.goto(f"{served.url}{path}")
            visit.check()
