"""Two people for the pages: alice runs the site, bob works with it. And a browser."""

from collections.abc import Iterator

import pytest
from django.test import Client
from playwright.sync_api import Browser, expect, sync_playwright

from models_app.accounts import create_user
from models_app.models import User
from tests.pages.catalogue import PASSWORD
from tests.pages.live_site import LiveSite, live_site
from tests.pages.served_site import ServedSite, served_site
from tests.pages.visits import CHROMIUM, DESK, FLOW_LOOKS, HEADLESS, Chromium, Look

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def alice(db: None) -> User:
    return create_user("alice", PASSWORD, is_admin=True)


@pytest.fixture
def bob(db: None) -> User:
    return create_user("bob", PASSWORD)


@pytest.fixture
def browser() -> Client:
    """A client that asks for pages, with CSRF checks like a real one."""
    return Client(headers={"accept": BROWSER}, enforce_csrf_checks=True)


@pytest.fixture
def as_alice(browser: Client, alice: User) -> Client:
    browser.force_login(alice)
    return browser


@pytest.fixture
def as_bob(browser: Client, bob: User) -> Client:
    browser.force_login(bob)
    return browser


@pytest.fixture(autouse=True)
def known_rules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep limit rules for long where queries are counted: they are read anew by the clock."""
    if "django_assert_num_queries" in request.fixturenames:
        monkeypatch.setattr("models_app.limit_book._KNOWN_S", 600.0)


# Closed with the module: as long as it lives, this thread has a running event loop.
@pytest.fixture(scope="module")
def browser_process() -> Iterator[Browser]:
    """Debian's own."""
    program = next((path for path in (HEADLESS, CHROMIUM) if path.exists()), None)
    if program is None:
        pytest.skip(f"no browser at {HEADLESS}: install the system package of that name")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-background-networking",
                "--host-resolver-rules=MAP models.internal 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def chromium(browser_process: Browser, look: Look) -> Chromium:
    """A browser with windows of the look at which the test walks."""
    return Chromium(browser_process, look)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Walk every flow at a narrow and a wide look, a light and a dark one, or as its mark says."""
    names = metafunc.fixturenames
    if "look" in names:
        mark = metafunc.definition.get_closest_marker("looks")
        looks = mark.args if mark else FLOW_LOOKS
        metafunc.parametrize("look", looks, ids=lambda look: look.name)
    elif "browser_process" in names:
        raise pytest.UsageError(f"{metafunc.function}: goes past `chromium`, and so past the looks")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """Return a web process that runs, with a fake node behind it."""
    # Not the test's own folder: the path of a unix socket may have 107 bytes.
    with live_site(tmp_path_factory.mktemp("s")) as running:
        yield running


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """Return a `serve` that runs, with alice and bob; one for all files of a test process."""
    with served_site(tmp_path_factory.mktemp("s") / "d") as running:
        yield running


@pytest.fixture(scope="module")
def failed_job(served: ServedSite, browser_process: Browser) -> str:
    """Return the path of a job of bob's that has failed."""
    for visit in served.visit(Chromium(browser_process, DESK), path="/models/pull"):
        name = f"127.0.0.1:{served.registry_port}/{'long-' * 15}/{'name-' * 15}"
        visit.page.get_by_label("Name of the model").fill(name)
        visit.page.get_by_role("button", name="Pull").click()
        expect(visit.page.locator("#job-state")).to_have_text("Failed", timeout=60_000)
        return visit.page.url.removeprefix(served.url)
    return ""
