"""In a browser: a model is pulled, created and uploaded, with an interruption in each; the line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from registry import manifests
from tests.fakes.registry import FakeRegistry, fake_registry
from tests.gguf_files import write_tiny_model
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, every_look, wait_for_held

pytestmark = [pytest.mark.slow, pytest.mark.beside]

JOB_TIMEOUT_MS = 60_000
OFFLINE = {"offline": True, "uploadThroughput": -1}
# Where what is read stands: the line must not move it.
PLACES = """() => Array.from(document.querySelectorAll("main, main :is(h1, h2, section)"), (at) => {
  const box = at.getBoundingClientRect();
  return [box.left, box.top, box.width];
})"""
SELECTED = """() => {
  const at = document.activeElement;
  return at.value.slice(at.selectionStart, at.selectionEnd);
}"""


@pytest.fixture
def registry(served: ServedSite) -> Iterator[FakeRegistry]:
    """Another registry, which the site goes to."""
    with fake_registry(served.registry_port) as running:
        yield running


def add_model(registry: FakeRegistry, repository: str, seed: int, folder: Path) -> str:
    """Have a model there, and return the digest of its weights.

    It comes in 85 pieces: a registry that pauses before each lets it run until the test goes on.
    """
    body = write_tiny_model(folder / f"{seed}.gguf", seed=seed, width=256).read_bytes()
    found = registry.add_manifest(repository, [(manifests.MODEL, body)], config=b"{}")
    digest: str = found["layers"][0]["digest"]
    return digest


def hold(_: Route) -> None:
    """Let a request wait."""


def expect_state(page: Page, word: str) -> None:
    expect(page.locator("#job-state")).to_have_text(word, timeout=JOB_TIMEOUT_MS)


def test_pull_is_seen_cancelled_and_resumed(
    served: ServedSite, chromium: Chromium, registry: FakeRegistry, tmp_path: Path
) -> None:
    repository = f"lab/walk-{chromium.look.width}"
    digest = add_model(registry, repository, 11 + chromium.look.width, tmp_path)
    registry.pause_s = 0.7
    name = f"{registry.host}/{repository}"
    for visit in served.visit(chromium, path="/models/pull"):
        page = visit.page
        page.get_by_label("Name of the model").fill("evil.example/a/b")
        expect(page.locator("#name-check")).to_contain_text("is not allowed here")
        visit.check()
        page.get_by_label("Name of the model").fill(name)
        expect(page.locator("#name-check")).to_contain_text(f"Comes from {registry.host}")
        page.get_by_label("Name of the model").press("Enter")

        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Pull {name}:latest")
        file = page.locator(".job-file").filter(has_text=digest[7:19])
        expect(file).to_contain_text(re.compile(r"/s, \d+ (s|min) left"), timeout=JOB_TIMEOUT_MS)
        assert float(str(file.locator("progress").get_attribute("value"))) > 0
        visit.check()
        page.get_by_role("button", name="Cancel").click()
        expect_state(page, "Cancelled")

        registry.pause_s = 0
        before = len(registry.gets_of(digest))
        page.get_by_role("button", name="Resume").click()
        expect_state(page, "Done")
        asked = registry.gets_of(digest)[before:]
        assert all(not it.headers["range"].startswith("bytes=0-") for it in asked)
        page.get_by_role("link", name="Open the model").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("walk")


def test_line_tells_on_other_pages_and_moves_nothing(
    served: ServedSite, chromium: Chromium, registry: FakeRegistry, tmp_path: Path
) -> None:
    repository = f"lab/line-{chromium.look.width}"
    add_model(registry, repository, 12 + chromium.look.width, tmp_path)
    registry.pause_s = 1.0
    for visit in served.visit(chromium, path="/models/pull"):
        page = visit.page
        page.get_by_label("Name of the model").fill(f"{registry.host}/{repository}")
        page.get_by_role("button", name="Pull").click()
        expect(page.locator(".job-file").first).to_be_visible(timeout=JOB_TIMEOUT_MS)

        page.route("**/jobs/strip", hold)
        page.goto(f"{served.url}/client-keys")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        before = page.evaluate(PLACES)
        page.unroute("**/jobs/strip")  # lets go of it
        line = page.locator(".job-strip-line")
        done = line.locator(".job-strip-done", has_text=repository)
        expect(line).to_contain_text(repository)
        expect(line).to_contain_text("%", timeout=JOB_TIMEOUT_MS)
        assert page.evaluate(PLACES) == before
        visit.check()

        registry.pause_s = 0
        expect(done).to_contain_text("Done", timeout=JOB_TIMEOUT_MS)
        page.get_by_role("button", name="Close this line").click()
        expect(done).to_have_count(0)
        page.goto(f"{served.url}/client-keys")
        expect(page.locator("#job-strip[data-poll]")).to_be_attached()
        expect(done).to_have_count(0)


def test_model_is_created_after_a_mistake(served: ServedSite, chromium: Chromium) -> None:
    name = f"walk-brief-{chromium.look.width}"
    for visit in served.visit(chromium, path="/models/create"):
        page, text = visit.page, visit.page.get_by_label("Modelfile", exact=True)
        check = page.locator("#modelfile-check")
        text.fill("FROM nothing/there\nPARAMETER temperature hot\nSYSTEM Be brief.")
        expect(check).to_contain_text("Line 2 Invalid float value [hot]")
        expect(page.locator(".editor-lines [data-wrong]").last).to_have_text("2")
        visit.check()
        page.get_by_role("button", name="Line 2").click()
        assert page.evaluate(SELECTED) == "PARAMETER temperature hot"
        page.keyboard.type("PARAMETER temperature 0.2")
        page.get_by_label("From").select_option("smollm2:135m")
        assert text.input_value().startswith("FROM smollm2:135m\nPARAMETER temperature 0.2\n")
        expect(check).to_have_text("Nothing is wrong with it.")

        text.press("Tab")  # goes on, and is not a letter of the text
        assert page.evaluate("() => document.activeElement.textContent.trim()") == "Create"
        page.keyboard.press("Enter")
        expect(page.get_by_text("Give the model a name.")).to_be_visible()
        visit.expects("400")
        visit.check()
        expect(page.locator("#id_name")).to_be_focused()
        assert "temperature 0.2" in text.input_value()
        page.get_by_label("Name of the new model").fill(name)
        page.get_by_role("button", name="Create").click()
        expect_state(page, "Done")
        expect(page.locator(".job-lines")).to_contain_text("writing manifest")
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"bob/{name}:latest")


def test_upload_goes_on_after_a_reload_and_a_lost_connection(
    served: ServedSite, chromium: Chromium, tmp_path: Path
) -> None:
    hostile = "Walk <img src=x onerror=alert(1)> 1B-Q8_0.gguf"
    path = write_tiny_model(tmp_path / hostile, seed=13 + chromium.look.width)
    model = f"walk-upload-{chromium.look.width}:q8"
    for visit in served.visit(chromium, path="/models/upload"):
        page = visit.page
        page.on("dialog", lambda dialog: dialog.accept())
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
        tab = page.context.new_cdp_session(page)
        tab.send("Network.enable")
        tab.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 10_000})
        page.set_input_files("#id_file", path)
        expect(page.get_by_text(hostile)).to_be_visible()
        name = page.get_by_label("Name of the model")
        expect(name).to_have_value("walk-img-src-x-onerror-alert-1-1b:q8_0")
        name.fill(model)
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("[data-percent]")).to_have_text(re.compile(r"[1-9]\d %"))
        expect(page.locator("[data-speed]")).to_contain_text("/s")

        page.reload()
        left = page.locator("[data-left]")
        expect(left).to_contain_text(re.compile(r"has stopped at [1-9]\d? %"))
        visit.check()
        page.set_input_files("#id_file", path)
        expect(name).to_have_value(model)
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("[data-percent]")).not_to_have_text("0 %")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Paused. What has come is kept.")).to_be_visible()
        visit.check()
        visit.expects("ERR_INTERNET_DISCONNECTED")
        tab.send("Network.emulateNetworkConditions", {**slow, **OFFLINE})
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("The connection is lost. Trying again …")).to_be_visible()
        tab.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        expect_state(page, "Done")
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"bob/{model}")


def test_upload_is_begun_once_however_often_it_is_asked_for(
    served: ServedSite, chromium: Chromium, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "twice.gguf", seed=97 + chromium.look.width)
    for visit in served.visit(chromium, path="/models/upload"):
        page = visit.page
        page.set_input_files("#id_file", path)
        page.get_by_label("Name of the model").fill(f"walk-twice-{chromium.look.width}:q8")
        page.locator("[data-upload]").evaluate("form => [1, 2].forEach(() => form.requestSubmit())")
        page.wait_for_url("**/jobs/*")

        begun = [address for address in visit.addresses if address.endswith("/upload/begin")]
        assert len(begun) == 1
        expect_state(page, "Done")  # and is no longer told of where other tests look


def test_upload_that_was_begun_goes_on_though_it_is_chosen_before_it_is_known(
    served: ServedSite, chromium: Chromium, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "soon.gguf", seed=98 + chromium.look.width)
    held: dict[str, list[Route]] = {"PATCH": [], "GET": []}
    for visit in served.visit(chromium, path="/models/upload"):
        page = visit.page
        page.on("dialog", lambda dialog: dialog.accept())
        page.route("**/blobs/uploads/*", lambda route: held[route.request.method].append(route))
        start = page.get_by_role("button", name="Upload", exact=True)
        page.set_input_files("#id_file", path)
        page.get_by_label("Name of the model").fill(f"walk-soon-{chromium.look.width}:q8")
        start.click()
        wait_for_held(page, held["GET"]).continue_()
        wait_for_held(page, held["PATCH"])

        page.reload()
        wait_for_held(page, held["GET"], 2)
        page.set_input_files("#id_file", path)
        start.click()
        page.unroute("**/blobs/uploads/*")  # lets go of it
        page.wait_for_url("**/jobs/*")
        begun = [address for address in visit.addresses if address.endswith("/upload/begin")]
        assert len(begun) == 1
        expect(page.get_by_role("heading", level=1)).to_contain_text("walk-soon")
        expect_state(page, "Done")


def test_upload_of_something_else_is_refused_at_once(
    served: ServedSite, chromium: Chromium, tmp_path: Path
) -> None:
    path = tmp_path / "letter.gguf"
    path.write_bytes(b"Dear reader")
    for visit in served.visit(chromium, path="/models/upload"):
        visit.page.set_input_files("#id_file", path)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        expect(visit.page.get_by_role("alert")).to_have_text("This is no GGUF file.")
        assert not any("/v2/" in address for address in visit.addresses)


@every_look
def test_pages_fit_and_can_be_read(served: ServedSite, chromium: Chromium, failed_job: str) -> None:
    paths = ("/jobs", failed_job, "/models/pull", "/models/create", "/models/upload")
    for visit in served.visit(chromium, path="/jobs"):
        for path in paths:
            visit.page.goto(f"{served.url}{path}")
            visit.check()
