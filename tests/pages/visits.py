"""A tab of a real browser at a site that runs. Knows no page but the one to sign in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    expect,
)

from tests.pages.catalogue import PASSWORD

# Without a window's own processes it takes a third of the work; in pictures stands the whole one.
HEADLESS: Final = Path("/usr/bin/chromium-headless-shell")
CHROMIUM: Final = Path("/usr/bin/chromium")
CONTRAST: Final = Path(__file__).with_name("contrast.js").read_text()
# Notes everything that a button says.
NOTES_WORDS: Final = """button => {
    const noted = document.documentElement.dataset;
    noted.words = "";
    const note = () => { noted.words += `${button.textContent.trim()}|` };
    new MutationObserver(note).observe(button, { childList: true, subtree: true });
}"""
# How long a page may take for what it is waited for, beside other tests and on a slow machine.
PATIENCE_MS: Final = 30_000
expect.set_options(timeout=PATIENCE_MS)


class Look(NamedTuple):
    """A window's width in px, and whether one has it light or dark."""

    width: int
    scheme: str

    @property
    def name(self) -> str:
        """What a test calls it, and what it makes there: `390-dark`."""
        return f"{self.width}-{self.scheme}"


LOOKS: Final = tuple(Look(width, scheme) for width in (390, 1440) for scheme in ("light", "dark"))
DESK: Final = Look(1440, "light")
PHONE: Final = Look(390, "dark")
# At these every flow is walked at least (`tests.pages.conftest`): both widths, both schemes.
FLOW_LOOKS: Final = (DESK, PHONE)
# For a flow that is short, or looks different at each.
every_look: Final = pytest.mark.looks(*LOOKS)


def only_look(look: Look, reason: str) -> pytest.MarkDecorator:
    """Walk a flow at one look alone, where a reason is told."""
    assert reason
    return pytest.mark.looks(look)


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser whose windows have a look."""

    process: Browser
    look: Look

    def new_context(self, **options: Any) -> BrowserContext:
        """Make a window; `options` are a browser context's."""
        size = {"width": self.look.width, "height": 900}
        own = {"viewport": size, "color_scheme": self.look.scheme}
        return self.process.new_context(**(own | options))


# What windows come from.
Opener = Browser | Chromium


class Site(Protocol):
    """What a tab needs of a site."""

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        ...


@dataclass
class Visit:
    """A tab, with everything it complained about and every address it asked for."""

    page: Page
    site: Site
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    meant: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note what happens from now on."""
        self.page.on("console", lambda message: self.complaints.append(_told(message)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def expects(self, complaint: str) -> None:
        """Let the browser complain of something that is meant: an answer of the status 404, say."""
        self.meant.append(complaint)

    def faults(self) -> list[str]:
        """Return what is wrong with what is seen now, and every complaint until now."""
        found = [f"wider than the window by {px} px" for px in [self.overflow_px()] if px > 0]
        found += self.page.evaluate(CONTRAST)
        return found + [
            line for line in self.complaints if not any(re.search(it, line) for it in self.meant)
        ]

    def check(self) -> None:
        """See that nothing is wrong with what is seen, once colours have changed."""
        self.page.wait_for_load_state()
        for _ in range(PATIENCE_MS // 100):
            found = self.faults()
            if not found:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("\n".join(["wrong with the page:", *found]))

    def sign_in(self, username: str = "alice", *, url: str = "") -> None:
        """Go home through the sign-in page."""
        self.page.goto(f"{url or self.site.url}/home")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Home")).to_be_visible()

    def copy_with(self, button: Locator) -> None:
        """Press a button that copies, and see that it has said so.

        It says so for two seconds, which a test that has to wait for its turn does not see.
        """
        button.evaluate(NOTES_WORDS)
        button.click()
        # Not wait_for_function: what that looks at again, the pages' policy forbids.
        noted = re.compile(r"(^|\|)Copied")
        expect(self.page.locator("html")).to_have_attribute("data-words", noted)

    def overflow_px(self) -> int:
        """How far the page is wider than its window."""
        script = "document.documentElement.scrollWidth - window.innerWidth"
        return int(self.page.evaluate(script))

    def focused(self) -> str:
        """What has the keyboard, in a few words."""
        script = """() => {
            const at = document.activeElement;
            return at.getAttribute("aria-label") || at.id || at.textContent.trim().split(/\\s+/)[0];
        }"""
        return str(self.page.evaluate(script))


def _told(message: ConsoleMessage) -> str:
    """Return what the browser says, and of what, where it says neither."""
    is_bare = message.text.startswith("Failed to load resource")
    return f"{message.text}: {message.location['url']}" if is_bare else message.text


def hold(page: Page, pattern: str) -> list[Route]:
    """Keep from the site what the page asks for from now on."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route))
    return held


def wait_for_held(page: Page, held: list[Route], count: int = 1) -> Route:
    """Wait until so much is held, and return the last of it."""
    for _ in range(PATIENCE_MS // 20):
        if len(held) >= count:
            return held[count - 1]
        page.wait_for_timeout(20)
    raise AssertionError(f"the page has asked for {len(held)} and not for {count}")


def press(page: Page, pressed: Locator) -> None:
    """Press something, and do not let go of it yet."""
    pressed.hover()
    page.mouse.down()


def open_visit(opener: Opener, site: Site, **options: Any) -> Iterator[Visit]:
    """Open a tab; `options` are those of a browser context."""
    context = opener.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(context.new_page(), site)
    visit.listen()
    yield visit
    context.close()


def walk(opener: Opener, site: Site, **options: Any) -> Iterator[Visit]:
    """Open a tab, and see at the end of its way that nothing was wrong with it."""
    for visit in open_visit(opener, site, **options):
        yield visit
        if not visit.page.is_closed():
            visit.check()
