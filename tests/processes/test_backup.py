"""A site that is backed up under load, and goes on in another place from the backup alone."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from tests.databases import database_settings
from tests.gguf_files import write_tiny_model
from tests.processes.running_site import RunningSite, wait_for

# Three starts of a site: on a busy machine each may take a minute.
pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(900)]

MODEL = "smollm2:135m"
MADE = "made-"
# Between two requests of a caller: without, they take the processor from what they are to disturb.
PAUSE_S = 0.1
SIGN_IN = """
from django.test import Client
from models_app.models import User
client = Client()
client.force_login(User.objects.get(username="admin"))
print("session", client.cookies["ollamasite_session"].value)
"""


def command(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the site that has this data directory."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("OLLAMASITE_")
    }
    environ |= database_settings(data_dir) | settings
    return subprocess.run(
        [sys.executable, "-m", "ollamasite", *arguments, "--data-dir", str(data_dir)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def done(data_dir: Path, *arguments: str, **settings: str) -> str:
    finished = command(data_dir, *arguments, **settings)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has a key and a session of the site."""

    key: str
    session: str

    @contextlib.contextmanager
    def client(self, site: RunningSite) -> Iterator[httpx2.Client]:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx2.Client(base_url=site.url, headers=headers, timeout=120) as client:
            yield client

    def chat(self, client: httpx2.Client) -> dict[str, Any]:
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "What is 2+2?"}]}
        options = {"num_predict": 8, "temperature": 0}
        answer = client.post("/api/chat", json=asked | {"stream": False, "options": options})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def page(self, site: RunningSite, path: str) -> str:
        cookies = {"ollamasite_session": self.session}
        with httpx2.Client(base_url=site.url, cookies=cookies, timeout=60) as client:
            answer = client.get(path)
        assert answer.status_code == 200
        return answer.text

    def ask_on_the_chat_page(self, site: RunningSite, text: str) -> None:
        host = site.url.removeprefix("http://")
        headers = {"Cookie": f"ollamasite_session={self.session}", "Origin": site.url}
        url = f"ws://{host}/ws/chats"
        with connect(url, additional_headers=headers, origin=None, open_timeout=60) as socket:
            options = {"num_predict": 8}
            asked = {"type": "ask", "id": "q", "model": MODEL, "text": text, "options": options}
            socket.send(json.dumps(asked))
            while json.loads(socket.recv(timeout=60))["type"] != "ended":
                pass


@dataclass
class Load:
    """Callers who ask, and make and delete models, until they are told to stop."""

    site: RunningSite
    caller: Caller
    folder: Path
    answers: int = 0
    models: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        kinds = (self._ask, self._ask, self._ask, self._make_models)
        threads = [threading.Thread(target=kind) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: self.answers > 4 and self.models > 1, 120)
            with self._half_an_upload():
                yield
        finally:
            self.is_over.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        with self.caller.client(self.site) as client:
            while not self.is_over.is_set():
                self.caller.chat(client)
                self.answers += 1
                self.is_over.wait(PAUSE_S)

    def _make_models(self) -> None:
        with self.caller.client(self.site) as client:
            for number in itertools.count():
                if self.is_over.is_set():
                    return
                path = write_tiny_model(self.folder / "made.gguf", seed=number)
                digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
                assert client.post(f"/api/blobs/{digest}", content=path.read_bytes()).is_success
                made = {"model": f"{MADE}{number % 4}", "files": {"made.gguf": digest}}
                assert client.post("/api/create", json=made | {"stream": False}).is_success
                if number % 4 == 3:  # the others lose theirs when the next has their name
                    gone = {"model": made["model"]}
                    assert client.request("DELETE", "/api/delete", json=gone).is_success
                self.models += 1
                self.is_over.wait(PAUSE_S)

    @contextlib.contextmanager
    def _half_an_upload(self) -> Iterator[None]:
        """Have sent a part of a file, and then no more of it."""
        head = f"POST /api/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Authorization: Bearer {self.caller.key}\r\nContent-Length: 8000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.site.port)) as connection:
            connection.sendall(head.encode() + bytes(4_000_000))
            yield


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A site that is gone, and what was seen of it."""

    data_dir: Path
    backup: Path
    caller: Caller
    answer: str
    names: list[str]
    answers_before: int  # that were whole before the backup began


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    folder = tmp_path_factory.mktemp("backup")
    site = RunningSite(folder / "data")
    try:
        site.wait_until_started()
        session = done(site.data_dir, "shell", "-c", SIGN_IN).rpartition("session ")[2].strip()
        caller = Caller(site.api_key, session)
        caller.ask_on_the_chat_page(site, "a question to be found again")
        with caller.client(site) as client:
            client.post("/api/copy", json={"source": MODEL, "destination": "mine"})
            answer = caller.chat(client)["message"]["content"]
            names = sorted(model["name"] for model in client.get("/api/tags").json()["models"])
        load = Load(site, caller, folder, answers=1)
        with load.running():
            before = load.answers
            done(site.data_dir, "backup", str(folder / "backup"))
            done(site.data_dir, "backup", str(folder / "one.tar"), "--without-blobs")
        assert site.end() == 0
        yield BackedUp(site.data_dir, folder / "backup", caller, answer, names, before)
    finally:
        site.clean_up()


def totals_of(client: httpx2.Client) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    total = client.get("/api/usage?all=1").json()["total"]
    rows: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        asked = {"all": "1", "limit": "500", "after": after}
        page = client.get("/api/usage/requests", params=asked).json()
        rows += page["requests"]
        after = page.get("next")
    return total, rows


def has_counted(client: httpx2.Client, *, more_than: int) -> bool:
    total, rows = totals_of(client)
    return bool(total["requests"] == len(rows) > more_than)


def journals_of(site: RunningSite) -> list[Path]:
    return list((site.data_dir / "ledger").glob("web-*.jsonl"))


def test_restored_site_goes_on_where_the_other_was(backed_up: BackedUp, tmp_path: Path) -> None:
    caller = backed_up.caller
    (tmp_path / "data/blobs").mkdir(parents=True)  # as in a volume of the image
    told = done(tmp_path / "data", "restore", str(backed_up.backup))
    assert "ollamasite serve" in told
    site = RunningSite(tmp_path / "data", "--no-starter-model")
    try:
        site.wait_until_started()
        assert "API key" not in site.output, "it has its users"
        with caller.client(site) as client:
            models = client.get("/api/tags").json()["models"]
            there = {model["name"] for model in models}
            assert {name for name in there if not name.startswith(MADE)} == set(backed_up.names)
            assert len(there) > len(backed_up.names)
            assert caller.chat(client)["message"]["content"] == backed_up.answer

            # What ran while the backup was made stands in a journal; its end, on neither side.
            wait_for(lambda: len(journals_of(site)) <= 1, 60)
            wait_for(lambda: has_counted(client, more_than=backed_up.answers_before), 60)
            total, rows = totals_of(client)
        for name in ("tokens_in", "tokens_out"):
            assert total[name] == sum(row[name] for row in rows)
        assert {row["outcome"] for row in rows} <= {"done", "lost"}

        assert "a question to be found again" in caller.page(site, "/chat/list")
        assert MODEL in caller.page(site, "/usage")
        # It finds the port by itself.
        checked = done(site.data_dir, "check", "--deep")
        assert "error" not in checked
        for part in ("web", "worker", "ledger", "store", "files' bytes"):
            assert f"ok       {part}\n" in checked, checked
        # Where the machine does much else, Redis may be found slow.
        assert re.search(r"^(ok       redis$|warning  redis: Redis takes )", checked, re.M), checked
        assert "damaged" not in done(site.data_dir, "verify")
        assert "as they were written" in done(site.data_dir, "audit", "verify")
        restored = done(site.data_dir, "audit", "list", "--action", "site.restore")
        assert json.loads((backed_up.backup / "backup.json").read_text())["made_at"] in restored
        assert site.end() == 0
    finally:
        site.clean_up()


def test_only_whole_backups_go_into_empty_places(backed_up: BackedUp, tmp_path: Path) -> None:
    into_itself = command(backed_up.data_dir, "restore", str(backed_up.backup))
    assert into_itself.returncode == 1
    assert "is not empty" in into_itself.stderr
    assert "Traceback" not in into_itself.stderr

    contents = backed_up.backup / "backup.json"
    told = contents.read_text()
    newer = json.loads(told)
    newer["migrations"]["models_app"].append("9999_of_tomorrow")
    try:
        contents.write_text(json.dumps(newer))
        refused = command(tmp_path / "data", "restore", str(backed_up.backup))
    finally:
        contents.write_text(told)
    assert "newer version" in refused.stderr
    assert "9999_of_tomorrow" in refused.stderr

    environ = {"OLLAMASITE_KEY_PEPPER": "another"}
    refused = subprocess.run(
        [sys.executable, "-m", "ollamasite", "restore", str(backed_up.backup)],
        env=os.environ
        | database_settings(tmp_path / "data")
        | environ
        | {"OLLAMASITE_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is not what the site had" in refused.stderr
    assert not (tmp_path / "data").exists()
    whole = done(tmp_path / "data", "restore", str(backed_up.backup), "--only-check")
    assert "is whole" in whole
    assert not (tmp_path / "data").exists()


def test_interrupted_restore_is_no_site_and_can_be_repeated(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    place = backed_up.backup.parent / "one.tar"
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "restoring").touch()
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets/key_pepper").write_text("half")

    refused = command(data_dir, "serve", "--port", "1")
    assert "A restore into" in refused.stderr

    assert "had no models" in done(data_dir, "restore", str(place))
    before = (backed_up.data_dir / "secrets/key_pepper").read_text()
    assert (data_dir / "secrets/key_pepper").read_text().strip() == before.strip()
    assert not (data_dir / "restoring").exists()
    again = command(data_dir, "restore", str(place))
    assert "is not empty" in again.stderr
