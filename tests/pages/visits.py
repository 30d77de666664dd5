"""A tab of a real browser at a site that runs. Knows no page but the one to sign in."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.pages.catalogue import PASSWORD

CHROMIUM: Final = Path("/usr/bin/chromium")
WIDTHS: Final = (390, 1440)
SCHEMES: Final = ("light", "dark")
LOOKS: Final = tuple((width, scheme) for width in WIDTHS for scheme in SCHEMES)


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

    def listen(self) -> None:
        """Note what happens from now on."""
        self.page.on("console", lambda message: self.complaints.append(_told(message)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def sign_in(self, username: str = "alice", *, url: str = "") -> None:
        """Go home through the sign-in page."""
        self.page.goto(f"{url or self.site.url}/home")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Home")).to_be_visible()

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


def open_visit(chromium: Browser, site: Site, **options: Any) -> Iterator[Visit]:
    """Open a tab; `options` are those of a browser context."""
    context = chromium.new_context(**options)
    context.set_default_timeout(30_000)
    visit = Visit(context.new_page(), site)
    visit.listen()
    yield visit
    context.close()
