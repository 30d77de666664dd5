"""A site under the load of its users, and what must hold when the faults are over.

Knows no fault.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.databases import database_settings
from tests.faults.patience import AFTERWARDS_S, READY_S, REQUEST_S
from tests.faults.users import MODEL, Heard, Users, answers
from tests.gguf_files import CHATML_JINJA, write_tiny_model
from tests.processes.running_site import RunningSite, wait_for

SIGN_IN = """
from django.test import Client
from models_app.models import User
client = Client()
client.force_login(User.objects.get(username="admin"))
print("session", client.cookies["ollamasite_session"].value)
"""
# All that the ledger and the chats say, as JSON in the last line.
TELL = """
import json
from models_app.models import ChatMessage, LedgerEntry, LedgerTotal
names = ("seed", "kind", "outcome", "error_code", "tokens_in", "tokens_out", "dialect")
rows = list(LedgerEntry.objects.values(*names))
answers = ChatMessage.objects.filter(role="assistant").values_list("chat__chat_id", "state")
print(json.dumps({"rows": rows, "answers": list(answers)}))
"""
# Limits that nobody reaches: Redis is asked for each request all the same.
LIMITS = {
    "OLLAMASITE_PARALLEL_REQUESTS": "500",
    "OLLAMASITE_TOKENS_PER_DAY": "1000000000",
    "OLLAMASITE_NUM_PARALLEL": "8",
    "OLLAMASITE_LOG_LEVEL": "WARNING",
}


@dataclass
class Faulty:
    """A running site and its users."""

    site: RunningSite
    users: Users
    environ: dict[str, str]
    session: str = ""

    def wait_until_ready(self) -> float:
        """Wait until `/readyz` says so; return how long it took. Fails where it takes too long."""
        began = time.monotonic()
        wait_for(lambda: answers(self.site.port, "/readyz"), READY_S)
        return time.monotonic() - began

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.site.api_key}"}
        answer = httpx2.get(self.site.url + path, headers=headers, timeout=REQUEST_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.site.api_key}"}
        answer = httpx2.post(self.site.url + path, headers=headers, json=body, timeout=REQUEST_S)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def run(self, *arguments: str) -> str:
        """Run a command of the site and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ollamasite", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("shell", "-c", TELL).splitlines()[-1])
        return found

    def journals(self) -> list[Path]:
        """The journals of requests that are not in the ledger yet and have something in them."""
        folder = self.site.data_dir / "ledger"
        return [path for path in folder.glob("web-*.jsonl") if _size_of(path)]


@contextlib.contextmanager
def faulty_site(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Faulty]:
    """Start a site with a tiny model, and stop it without a trace."""
    wanted = LIMITS | dict(settings or {})
    site = RunningSite(data_dir, "--no-starter-model", settings=wanted)
    try:
        site.wait_until_started()
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("OLLAMASITE_")
        }
        environ |= database_settings(data_dir) | wanted | {"OLLAMASITE_DATA_DIR": str(data_dir)}
        faulty = Faulty(site, Users(site.port, site.api_key, ""), environ)
        faulty.session = faulty.run("shell", "-c", SIGN_IN).rpartition("session ")[2].strip()
        faulty.users = Users(site.port, site.api_key, faulty.session)
        _create_model(faulty, data_dir.parent / "tiny.gguf")
        yield faulty
        assert site.end() == 0
    finally:
        site.clean_up()


def _create_model(faulty: Faulty, path: Path) -> None:
    data = write_tiny_model(path, chat_template=CHATML_JINJA).read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    headers = {"Authorization": f"Bearer {faulty.site.api_key}"}
    url = f"{faulty.site.url}/api/blobs/{digest}"
    answer = httpx2.post(url, headers=headers, content=data, timeout=REQUEST_S)
    assert answer.status_code == 201, answer.text
    faulty.post("/api/create", {"model": MODEL, "files": {"tiny.gguf": digest}, "stream": False})


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # its requests have just come into the ledger
        return 0


# ------------------------------------------------------------------ what must hold


def assert_all_has_ended(faulty: Faulty) -> None:
    """Everybody has heard an end in time, each request is in the ledger once, exactly."""
    users = faulty.users
    slow = [one for one in users.heard if one.took_s > REQUEST_S]
    assert not slow, slow
    # Whoever finds a journal without its process writes it down, within half a minute or so.
    wait_for(lambda: len(faulty.journals()) <= 0, AFTERWARDS_S)
    wait_for(lambda: not chats_that_are_answered(faulty), AFTERWARDS_S)
    told = faulty.told()
    assert_ledger_is_exact(users, told["rows"])
    assert {state for _, state in told["answers"]} <= {"done", "failed", "interrupted"}
    assert_sums_are_those_of_rows(faulty, told["rows"])
    assert_nothing_is_held(faulty)


def chats_that_are_answered(faulty: Faulty) -> set[str]:
    """The chats in which an answer runs still, when somebody has looked at each.

    An answer whose process is gone, or was told an error though its rows were committed, is ended
    by whoever looks at it, once it has been silent for a while.
    """
    found = {chat for chat, state in faulty.told()["answers"] if state == "running"}
    look_at_chats(faulty, found)
    return found


def look_at_chats(faulty: Faulty, chat_ids: Iterable[str]) -> None:
    cookies = {"ollamasite_session": faulty.session}
    with httpx2.Client(base_url=faulty.site.url, cookies=cookies, timeout=REQUEST_S) as page:
        for chat_id in chat_ids:
            assert page.get(f"/chat/{chat_id}/messages").status_code == 200


def assert_ledger_is_exact(users: Users, rows: list[dict[str, Any]]) -> None:
    by_seed: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] != "embed":
            by_seed[row["seed"]].append(row)
    seeded = {one.seed: one for one in users.heard if one.kind != "embed"}
    strangers = {seed for seed in by_seed if seed not in seeded}
    assert not strangers, [by_seed[seed] for seed in strangers]
    wrong = [
        (one, by_seed[seed]) for seed, one in seeded.items() if not _is_right(one, by_seed[seed])
    ]
    assert not wrong, "\n".join(map(str, wrong[:5]))
    embedded = [one for one in users.heard if one.kind == "embed"]
    counted = sum(row["kind"] == "embed" and row["outcome"] == "done" for row in rows)
    heard = sum(one.end == "done" for one in embedded)
    assert heard <= counted <= heard + sum(one.end == "cut" for one in embedded)


def _is_right(heard: Heard, rows: list[dict[str, Any]]) -> bool:
    """Whether the ledger says of a request what its user has heard."""
    if len(rows) > 1:
        return False
    if not rows:
        # It was refused before it was let in, or nothing of its beginning was heard.
        return heard.end in {"refused", "cut"} and not heard.pieces
    row = rows[0]
    if heard.tokens_out is not None:
        told = (row["outcome"], row["tokens_in"], row["tokens_out"])
        return bool(told == ("done", heard.tokens_in, heard.tokens_out))
    if heard.end == "done":  # on the page, which tells no figures here
        return bool(row["outcome"] == "done")
    if heard.kind == "page" and "the database does not answer" in heard.detail:
        # The engine is asked before the question is stored. Where that fails, an answer as short as
        # these may have been computed: the row tells of it, and nobody was shown anything.
        return True
    if heard.end in {"failed", "refused"}:
        return bool(row["outcome"] != "done" and row["tokens_out"] >= heard.pieces)
    return bool(row["tokens_out"] >= heard.pieces)


def assert_sums_are_those_of_rows(faulty: Faulty, rows: list[dict[str, Any]]) -> None:
    total = faulty.get("/api/usage?all=1")["total"]
    assert total["requests"] == len(rows)
    for name in ("tokens_in", "tokens_out"):
        assert total[name] == sum(row[name] for row in rows), name


def assert_nothing_is_held(faulty: Faulty) -> None:
    """No limit believes that a request runs still."""

    def running() -> int:
        limits = faulty.get("/api/limits")["limits"]
        return sum(one["used"] for one in limits if one["unit"] == "parallel")

    try:
        wait_for(lambda: running() == 0, AFTERWARDS_S)
    except AssertionError as error:
        raise AssertionError(faulty.get("/api/limits")) from error
