"""A whole `ollamasite serve` with the starter model, for tests in a browser. Knows no page.

alice runs the site, bob works with it, carla chats: nobody makes models of hers, so a new chat is
with the starter model. Every file's tests share it: each works with what it has made itself, under
names of its own, and leaves the starter model and these people as they are. The site also goes to a
registry at `registry_port`, where a test may run one (`tests.fakes.registry`).
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.databases import database_settings
from tests.pages.catalogue import PASSWORD
from tests.pages.visits import Opener, Visit, open_visit, walk
from tests.prepared_sites import Kind, copy_prepared
from tests.processes.running_site import RunningSite, free_port


class ServedSite:
    """Where the site is, and who has signed in there."""

    def __init__(self, running: RunningSite, registry_port: int = 0) -> None:
        self.running = running
        self.registry_port = registry_port
        self.url = running.url
        self._states: dict[str, Any] = {}

    def command(self, *arguments: str, said: str = "") -> str:
        """Run one of the site's commands, with something on its standard input."""
        return self.run("ollamasite", *arguments, said=said)

    def run(self, module: str, *arguments: str, said: str = "") -> str:
        """Run a module with the site's settings, with something on its standard input."""
        folder = self.running.data_dir
        # The tests' own settings are not the site's: its secrets lie in its folder.
        own = {name: value for name, value in os.environ.items() if name[:11] != "OLLAMASITE_"}
        environ = own | database_settings(folder) | {"OLLAMASITE_DATA_DIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=environ,
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def add_user(self, name: str, *options: str) -> None:
        """Make somebody, with the password of everybody."""
        self.command("create-user", name, "--password-stdin", *options, said=PASSWORD)

    def visit(
        self, chromium: Opener, username: str = "bob", *, path: str = "/home", **options: Any
    ) -> Iterator[Visit]:
        """Open a tab in which somebody is signed in; `options` are those of a browser context."""
        if username not in self._states:
            for visit in open_visit(chromium, self):
                visit.sign_in(username)
                self._states[username] = visit.page.context.storage_state()
        state = self._states[username]
        for visit in walk(chromium, self, **{"storage_state": state} | options):
            visit.page.goto(f"{self.url}{path}")
            expect(visit.page.locator("main")).to_be_visible()
            yield visit


@contextlib.contextmanager
def served_site(data_dir: Path) -> Iterator[ServedSite]:
    """Run it."""
    registry_port = free_port()
    registries = f"registry.ollama.ai,hf.co,http://127.0.0.1:{registry_port}"
    copy_prepared(Kind.PEOPLE, data_dir)
    settings = {
        "OLLAMASITE_ALLOWED_REGISTRIES": registries,
        "OLLAMASITE_SIGN_INS_PER_MINUTE": "0",  # tests are quicker than people
    }
    running = RunningSite(data_dir, settings=settings)
    try:
        running.wait_until_started()
        yield ServedSite(running, registry_port)
        running.end()
    finally:
        running.clean_up()
