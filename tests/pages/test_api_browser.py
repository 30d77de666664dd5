"""In a browser: operations are found, tried as oneself and with a key, streamed and stopped."""

import json

import pytest
from playwright.sync_api import expect

from tests.pages.catalogue import STARTER
from tests.pages.chatting import ANSWER_MS
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium

pytestmark = [pytest.mark.slow, pytest.mark.beside]
CHAT = "/api-docs/post_api_chat"


def test_search_narrows_while_one_types_and_leads_to_an_operation(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, path="/api-docs"):
        page = visit.page
        page.get_by_label("Search the operations").fill("rotate key")
        expect(page.locator("[data-words]:visible")).to_have_count(1)
        expect(page.locator("[data-group]:visible")).to_have_count(1)
        page.get_by_label("Search the operations").fill("no such thing")
        expect(page.get_by_text("Nothing has all these words")).to_be_visible()
        visit.check()
        page.get_by_label("Search the operations").fill("api/version")
        page.get_by_role("link", name="/api/version").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("/api/version")


def test_chat_is_tried_as_oneself_and_streams(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path=CHAT):
        page = visit.page
        body = {
            "model": STARTER,
            "messages": [{"role": "user", "content": "Say hi"}],
            "options": {"num_predict": 8, "seed": 1},
        }
        page.get_by_label("Body").fill(json.dumps(body))
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-status")).to_contain_text("200 OK,", timeout=ANSWER_MS)
        expect(page.locator("#try-output")).to_contain_text('"done":true', timeout=ANSWER_MS)
        page.get_by_text("Headers", exact=True).click()
        expect(page.locator("#try-headers")).to_contain_text("x-request-id")


def test_running_answer_is_stopped(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path="/api-docs/post_api_generate"):
        page = visit.page
        # Once it counts it goes on for as long as it may.
        options = {"num_predict": 4000, "temperature": 0}
        body = {"model": STARTER, "prompt": "1, 2, 3, 4, 5, 6, 7,", "raw": True, "options": options}
        page.get_by_label("Body").fill(json.dumps(body))
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-output")).to_contain_text('"response":', timeout=ANSWER_MS)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#try-status")).to_contain_text("Stopped")


def test_body_that_is_no_json_is_told_and_kept(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path=CHAT):
        page = visit.page
        page.get_by_label("Body").fill('{"model": ')
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-body-problem")).to_contain_text("This is no JSON")
        visit.check()
        expect(page.get_by_label("Body")).to_be_focused()
        expect(page.get_by_label("Body")).to_have_value('{"model": ')


def test_pasted_key_is_used_alone_and_kept_nowhere(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path="/api-docs/get_api_me"):
        page = visit.page
        page.get_by_label("With a key").check()
        page.get_by_label("Key", exact=True).fill("osk-of-nobody")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-status")).to_contain_text("401")
        visit.expects("401")
        visit.check()
        expect(page.locator("#try-output")).to_contain_text("error")
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert "osk-of-nobody" not in kept
        assert not any("osk-of-nobody" in address for address in visit.addresses)
        page.reload()
        page.get_by_label("With a key").check()
        expect(page.get_by_label("Key", exact=True)).to_have_value("")


def test_names_in_the_path_and_words_behind_it_are_sent(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, path="/api-docs/get_v1_models_name"):
        page = visit.page
        page.get_by_label("name in the path").fill(STARTER)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-output")).to_contain_text(f'"id": "{STARTER}"')
        page.goto(f"{served.url}/api-docs/get_api_jobs")
        page.get_by_label("limit optional").fill("7")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-status")).to_contain_text("200 OK")
        assert f"{served.url}/api/jobs?limit=7" in visit.addresses


def test_deletion_is_sent_only_by_who_is_sure(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, path="/api-docs/delete_api_delete"):
        page = visit.page
        page.get_by_role("button", name="Send").click()
        assert not any(address.endswith("/api/delete") for address in visit.addresses)
        page.get_by_label("Really send it").check()
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#try-status")).to_contain_text("404")
        visit.expects("404")
