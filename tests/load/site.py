"""A site whose processes a load test starts one by one: a node with scripted runners, and webs.

Knows the commands and /proc; nothing of what is asked.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import processes
from bench.servers import answers
from tests.databases import database_settings
from tests.pages.catalogue import STARTER
from tests.prepared_sites import Kind, copy_prepared
from tests.processes.running_site import free_port, wait_for

MODEL = STARTER
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Held:
    """What a process held when it was asked."""

    objects: int
    tasks: int
    threads: int
    files: int
    kinds: dict[str, int]
    queries: int  # all that it has sent to the database so far


class Watched:
    """One process of the site."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str], *command: str) -> None:
        self.name = name
        self._told = folder / f"{name}.json"
        self._log = folder / f"{name}.log"
        argv = [sys.executable, "-m", "tests.load.watched", str(self._told), *command]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def rss_mib(self) -> float:
        return processes.rss_bytes(self.pid) / 2**20

    @property
    def log(self) -> str:
        return self._log.read_text()

    def held(self) -> Held:
        """Ask it what it holds."""
        self._told.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR2)
        wait_for(self._told.exists, 60)
        return Held(**json.loads(self._told.read_text()))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class LoadSite:
    """A data directory with a user who has a key, and the processes that are started on it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        facts = copy_prepared(Kind.CATALOGUE, folder)
        self.key = facts.api_key
        self.session = facts.session  # the value of bob's cookie
        self._database = database_settings(folder)
        self.environ = {
            **os.environ,
            **self._database,
            "OLLAMASITE_DATA_DIR": str(folder),
            "OLLAMASITE_LOG_LEVEL": "WARNING",
            "OLLAMASITE_DRAIN_TIMEOUT": "1s",
            **settings,
        }

    def sessions_of_others(self, count: int) -> list[str]:
        """Sign in as many users, who have nothing yet; return their cookies' values."""
        code = (
            "from django.test import Client\n"
            "from models_app.models import User\n"
            f"for number in range({count}):\n"
            "    client = Client()\n"
            "    client.force_login(User.objects.create(username=f'user{number}'))\n"
            "    print('session', client.cookies['ollamasite_session'].value)"
        )
        return re.findall(r"session (\w+)", self.run("django", "shell", "-c", code))

    def run(self, module: str, *arguments: str) -> str:
        """Run a command to its end and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def node(self, *, rate: float, together: int = 1, length: int = 0) -> Iterator[Watched]:
        """Run a node whose runners are scripted."""
        runner = ("--runner", str(rate), str(together), str(length))
        socket_path = self.folder / "run" / "engine.sock"
        node = Watched("node", self.folder, self.environ, *runner, "inference")
        try:
            wait_for(lambda: socket_path.exists() or _has_ended(node), _START_TIMEOUT_S)
            assert not _has_ended(node), node.log
            yield node
        finally:
            node.end()

    @contextmanager
    def web(self, number: int = 1) -> Iterator["Web"]:
        """Run a web process."""
        web = Web(f"web{number}", self.folder, self.environ)
        try:
            wait_for(lambda: answers(web.port, "/healthz") or _has_ended(web), _START_TIMEOUT_S)
            assert not _has_ended(web), web.log
            yield web
        finally:
            web.end()

    def ledger(self) -> tuple[int, int]:
        """Return how many requests are in the ledger, and how many tokens they were answered."""
        code = (
            "from django.db.models import Count, Sum\n"
            "from models_app.models import LedgerEntry\n"
            "sums = LedgerEntry.objects.aggregate(Count('pk'), Sum('tokens_out'))\n"
            "print('sums', sums['pk__count'], sums['tokens_out__sum'])"
        )
        found = re.search(r"sums (\d+) (\w+)", self.run("django", "shell", "-c", code))
        assert found is not None
        return int(found[1]), 0 if found[2] == "None" else int(found[2])

    def database_connections(self, webs: list["Web"]) -> int:
        """Return how many connections to the database there are, of these processes."""
        address = self._database.get("OLLAMASITE_DATABASE_URL")
        if address is None:
            return sum(web.database_files for web in webs)
        with psycopg.connect(address.replace("postgres:", "postgresql:", 1)) as connection:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            found = connection.execute(asked).fetchone()
        assert found is not None
        return int(found[0]) - 1  # without this one


class Web(Watched):
    """A web process."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        self.port = free_port()
        command = ("web", "--host", "127.0.0.1", "--port", str(self.port))
        super().__init__(name, folder, environ, *command)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_files(self) -> int:
        """How often it has its SQLite database open."""
        links = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has been closed
                links.append(str(entry.readlink()))
        return sum(link.endswith("db.sqlite3") for link in links)

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))


def _has_ended(process: Watched) -> bool:
    return process.process.poll() is not None
