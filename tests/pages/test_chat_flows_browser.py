"""What surrounds a conversation: the list, folders, images, settings, temporary chats, looks."""

import base64
import json

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.pages.chatting import ask, chat, chat_id_of, exported, own_word, show_list, wait_for_end
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, every_look

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# One red point.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
GIVE_FILE = """([data, kind]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const moved = new DataTransfer();
    moved.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
    const target = document.getElementById("question");
    const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: moved, bubbles: true, cancelable: true })
        : new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true });
    target.dispatchEvent(event);
}"""


def asked_chat(page: Page, word: str) -> str:
    """Have a chat with a word in its question, and return its id."""
    wait_for_end(ask(page, f"{word} is a word."))
    return chat_id_of(page)


def test_a_chat_is_renamed_moved_found_and_deleted(served: ServedSite, chromium: Chromium) -> None:
    word, title, folder = own_word(), own_word(), own_word()
    for visit in chat(served, chromium):
        page = visit.page
        asked_chat(page, word)
        show_list(page)
        page.get_by_role("button", name="New folder").click()
        page.get_by_role("dialog", name="New folder").get_by_label("Name").fill(folder)
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".side-folder", has_text=folder)).to_be_visible()

        page.get_by_role("button", name=f"Change {word}").click()
        dialog = page.get_by_role("dialog", name="This chat")
        dialog.get_by_label("Title").fill(title)
        visit.check()
        dialog.get_by_label("Folder").select_option(label=folder)
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        page.locator(".side-folder", has_text=folder).locator("summary").click()
        expect(page.locator(".side-folder-chats").get_by_text(title)).to_be_visible()

        page.keyboard.press("Control+k")
        assert visit.focused() == "search"
        page.keyboard.type(word)
        expect(page.locator(".side-chat")).to_have_count(1)
        expect(page.locator(".side-chat")).to_contain_text(title)

        page.get_by_role("button", name=f"Change {title}").click()
        dialog.get_by_role("button", name="Delete…").click()
        visit.check()
        dialog.get_by_role("button", name="Keep it").click()
        page.get_by_role("button", name=f"Change {title}").click()
        dialog.get_by_role("button", name="Delete…").click()
        dialog.get_by_role("button", name="Delete the chat").click()
        expect(page).to_have_url(f"{served.url}/chat")
        expect(page.locator(".side-chat", has_text=title)).to_have_count(0)


def test_a_chat_is_exported_both_ways(served: ServedSite, chromium: Chromium) -> None:
    word = own_word()
    for visit in chat(served, chromium):
        page = visit.page
        asked_chat(page, word)
        for name, ending in (("Export as Markdown", ".md"), ("Export as JSON", ".json")):
            page.get_by_text("More about this chat").locator("xpath=..").click()
            with page.expect_download() as waiting:
                page.get_by_role("button", name=name).click()
            path = waiting.value.path()
            assert waiting.value.suggested_filename.endswith(ending)
            assert word in path.read_text()
        assert json.loads(path.read_text())["messages"]


def test_a_temporary_chat_is_listed_nowhere(served: ServedSite, chromium: Chromium) -> None:
    word = own_word()
    for visit in chat(served, chromium):
        page = visit.page
        page.get_by_label("Temporary chat").check()
        wait_for_end(ask(page, f"{word} is secret."))
        wait_for_end(ask(page, "And now?"))
        expect(page.locator(".said")).to_have_text([f"{word} is secret.", "And now?"])
        before = str(page.locator(".turn-assistant").last.get_attribute("id"))
        page.get_by_role("button", name="Regenerate").last.click()
        expect(page.locator(f"#{before}")).to_have_count(0)
        expect(page.locator(".turn")).to_have_count(4)
        wait_for_end(page.locator(".turn-assistant").last)
        expect(page).to_have_url(f"{served.url}/chat")
        page.reload()
        expect(page.locator(".turn")).to_have_count(0)
        show_list(page)
        page.get_by_label("Search your chats").fill(word)
        expect(page.get_by_text("No chat has these words.")).to_be_visible()


@pytest.mark.parametrize("kind", ["paste", "drop", "upload"])
def test_an_image_is_shown_and_removed_and_refused_in_words(
    served: ServedSite, chromium: Chromium, kind: str
) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        if kind == "upload":
            file = FilePayload(name="upload.png", mimeType="image/png", buffer=PNG)
            page.locator("#files").set_input_files(file)
        else:
            page.evaluate(GIVE_FILE, [base64.b64encode(PNG).decode(), kind])
        picture = page.get_by_role("img", name=f"{kind}.png")
        expect(picture).to_be_visible()
        page.get_by_label("Message", exact=True).fill("What is this?")
        page.get_by_label("Message", exact=True).press("Enter")
        expect(page.get_by_role("alert").filter(has_text="cannot see images")).to_be_visible()
        visit.check()
        expect(page.get_by_label("Message", exact=True)).to_have_value("What is this?")
        page.get_by_role("button", name=f"Remove {kind}.png").click()
        expect(picture).to_be_hidden()


def test_settings_are_kept_with_the_chat(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        page.get_by_role("button", name="Parameters and system prompt").click()
        drawer = page.get_by_role("dialog", name="Parameters")
        drawer.get_by_label("Top p").fill("7")
        drawer.get_by_role("button", name="Use these").click()
        expect(drawer.get_by_text("This must be 1 or less.")).to_be_visible()
        visit.check()
        assert visit.focused() == "o-top_p"
        drawer.get_by_label("Top p").fill("0.5")
        drawer.get_by_label("System prompt").fill("You are a lighthouse.")
        drawer.get_by_role("button", name="Use these").click()
        wait_for_end(ask(page, "Who are you?"))
        page.reload()
        expect(page.get_by_text("system prompt", exact=True)).to_be_visible()
        found = exported(page)
        assert found["system"] == "You are a lighthouse."
        assert found["options"]["top_p"] == 0.5


def test_a_draft_survives_a_reload(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        visit.page.get_by_label("Message", exact=True).fill("half a thought")
        visit.page.reload()
        expect(visit.page.get_by_label("Message", exact=True)).to_have_value("half a thought")


def test_the_model_is_picked_by_keyboard(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        page.locator("#picker > summary").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("Search models")).to_be_focused()
        visit.check()
        page.keyboard.type("smol")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Search models")).to_be_hidden()
        expect(page.locator("#picker-name")).to_have_text("smollm2:135m")


@every_look
def test_the_page_looks_right(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        expect(page.get_by_role("heading", name="What shall we begin with?")).to_be_visible()
        visit.check()
        wait_for_end(ask(page, f"{'long' * 150} <b>{own_word()}</b>"))
        visit.check()
        page.locator("#picker > summary").click()
        visit.check()
        page.keyboard.press("Escape")
        if chromium.look.width < 960:
            page.get_by_role("button", name="Your chats").click()
            expect(page.get_by_role("link", name="New chat")).to_be_visible()
            visit.check()
            page.keyboard.press("Escape")
            expect(page.get_by_role("link", name="New chat")).to_be_hidden()
        page.get_by_role("button", name="Parameters and system prompt").click()
        visit.check()
