"""The image and the containers of it, as a user and an operator meet them.

In this order: an image is looked at, the site is started, used, saved, restored and stopped.
"""

import hashlib
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import ollama
import pytest
from openai import DefaultHttpxClient, OpenAI

from registry.starter import starter_file
from tests.images.containers import (
    IMAGE,
    Containers,
    build,
    containers,
    inspect,
    missing,
    run_in_image,
)
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.images, pytest.mark.timeout(5400)]

MODEL: Final = "smollm2:135m"
LIMIT_S: Final = 300.0
# Without CUDA: Python, PostgreSQL's client, the packages and the starter model.
MOST_BYTES: Final = 1_000_000_000
# Run as the image's user. Prints what it could write to, and what nobody needs there.
LOOK: Final = """
import json, os, shutil, stat
kept = {"/proc", "/sys", "/dev", "/data", "/tmp", "/var/tmp", "/run/lock", "/home/site"}
writable, needless, privileged = [], [], []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in kept]
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if os.path.islink(path):
            continue
        if os.access(path, os.W_OK):
            writable.append(path)
        if os.path.isfile(path) and os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
            privileged.append(path)
apt = [name for name in os.listdir("/var/lib/apt/lists") if name.endswith("Packages")]
needless += [f"{name} of apt" for name in apt]
needless += [name for name in ("g++", "gcc", "cmake", "make", "git") if shutil.which(name)]
own = ["pyproject.toml", "README.md", "LICENSE", "manage.py", "ollamasite", "models_app",
       "inference", "registry", "templates", "static", "ollamasite.egg-info", ".venv",
       "requirements.txt"]
needless += sorted(set(os.listdir("/app")) - set(own))
home = os.path.expanduser("~")
needless += [path for path in (home + "/.cache", "/root/.cache") if os.path.exists(path)]
modes = {path: oct(os.stat(path).st_mode & 0o777) for path in ("/data", "/data/run", "/data/blobs")}
print(json.dumps({"user": os.getuid(), "writable": writable, "needless": needless, "modes": modes,
                  "privileged": privileged}))
"""
# Prints which files would be compiled at every start: nobody can keep what was compiled there.
UNCOMPILED: Final = """
import importlib.util, json, os, pathlib, sys
import asyncio, celery, django, multiprocessing, urllib.request, uvicorn
loaded = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
own = [str(path) for name in ("ollamasite", "models_app", "inference", "registry")
       for path in pathlib.Path("/app", name).rglob("*.py")]
stale = []
for path in [*loaded, *own]:
    if not path.endswith(".py"):
        continue
    try:
        with open(importlib.util.cache_from_source(path), "rb") as cached:
            words = [int.from_bytes(cached.read(4), "little") for _ in range(4)]
    except FileNotFoundError:
        stale.append(path)
        continue
    if words[1] == 0 and words[2] != int(os.stat(path).st_mtime):
        stale.append(path)
print(json.dumps(stale))
"""


@dataclass(frozen=True, slots=True)
class Site:
    """The containers, and somebody who may use them."""

    containers: Containers
    key: str
    tls: ssl.SSLContext

    def client(self) -> httpx.Client:
        """Return a client with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        url = self.containers.url
        return httpx.Client(base_url=url, verify=self.tls, headers=headers, timeout=LIMIT_S)

    def chat(self) -> str:
        """Ask the model through the proxy, by Ollama's own client."""
        headers = {"Authorization": f"Bearer {self.key}"}
        messages = [{"role": "user", "content": "Say hello."}]
        options = {"num_predict": 12, "temperature": 0}
        with ollama.Client(self.containers.url, headers=headers, verify=self.tls) as client:
            parts = client.chat(MODEL, messages=messages, stream=True, options=options)
            return "".join(part.message.content or "" for part in parts)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    if lacks := missing():
        pytest.fail(f"images cannot be built here: {lacks}", pytrace=False)
    build("cpu")


@pytest.fixture(scope="module")
def site(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("containers")
    with containers(folder) as running:
        alice = ["ollamasite", "create-user", "alice", "--admin", "--password-stdin"]
        running.run("web-1", *alice, told="of-the-test-only\n")
        key = running.run("web-1", "ollamasite", "create-key", "alice").strip()
        tls = ssl.create_default_context(cafile=running.certificate)
        yield Site(running, key, tls)


def test_image_has_what_runs_and_nothing_that_its_user_can_change() -> None:
    found = json.loads(run_in_image(LOOK))

    assert found["user"] == 1000
    assert found["writable"] == []
    assert found["needless"] == []
    assert set(found["modes"].values()) == {"0o700"}


def test_image_is_no_larger_than_it_must_be_and_has_no_secret() -> None:
    told = inspect(IMAGE)

    assert told["Size"] < MOST_BYTES
    names = {line.partition("=")[0] for line in told["Config"]["Env"]}
    assert {name for name in names if name.startswith("OLLAMASITE_")} == {"OLLAMASITE_DATA_DIR"}


def test_nothing_is_compiled_at_each_start() -> None:
    assert json.loads(run_in_image(UNCOMPILED)) == []


def test_every_container_is_well_and_can_do_little(site: Site) -> None:
    found = site.containers.containers()

    ended = found.pop("migrate")
    assert ended["State"]["ExitCode"] == 0
    assert {
        name: each["State"]["Health"]["Status"] for name, each in found.items()
    } == dict.fromkeys(
        ["postgres", "redis", "web-1", "web-2", "worker", "inference", "proxy"], "healthy"
    )
    for name in found:
        status = site.containers.run(name, "cat", "/proc/1/status")
        told = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
        assert "0" not in told["Uid"], name
        assert told["CapBnd"] == ["0000000000000000"], name
        assert told["NoNewPrivs"] == ["1"], name
        [root, *_] = site.containers.run(name, "cat", "/proc/mounts").splitlines()
        assert "ro" in root.split()[3].split(","), name


def test_model_is_made_and_asked_through_the_proxy(site: Site) -> None:
    data = starter_file().read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with site.client() as client:
        assert client.post(f"/api/blobs/{digest}", content=data).status_code == 201
        body = {"model": MODEL, "files": {"starter.gguf": digest}, "stream": False}
        made = client.post("/api/create", json=body)
    with OpenAI(
        base_url=f"{site.containers.url}/v1",
        api_key=site.key,
        timeout=LIMIT_S,
        http_client=DefaultHttpxClient(verify=site.tls),
    ) as by_openai:
        hello: Any = {"role": "user", "content": "Say hello."}
        stream = by_openai.chat.completions.create(
            model=MODEL, messages=[hello], max_tokens=12, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert made.json() == {"status": "success"}, made.text
    assert text
    assert site.chat()


def test_operator_is_told_that_nothing_is_wrong(site: Site) -> None:
    for name in ("web-1", "worker"):
        told = json.loads(site.containers.run(name, "ollamasite", "check", "--json"))

        errors = [
            finding
            for part in told["parts"]
            for finding in part["findings"]
            if finding["level"] == "error"
        ]
        assert (told["ok"], errors) == (True, [])


def _answer_to_the_end(site: Site) -> dict[str, Any]:
    """Ask for a long answer and return its last line."""
    body = {
        "model": MODEL,
        "prompt": "1, 2, 3,",
        "raw": True,
        "options": {"num_predict": 200, "temperature": 0},
    }
    with site.client() as client, client.stream("POST", "/api/generate", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    last = json.loads(lines[-1])
    assert isinstance(last, dict)
    return last


@pytest.mark.parametrize("name", ["web-1", "web-2", "worker", "inference"])
def test_restart_of_one_loses_no_answer(site: Site, name: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(_answer_to_the_end, site) for _ in range(4)]
        with site.client() as client:
            wait_for(lambda: client.get("/api/queue").json()["running"] > 0, LIMIT_S)
        command = ["up", "--no-build", "--detach", "--no-deps", "--force-recreate", "--wait", name]
        site.containers.compose(*command)
        answers = [each.result() for each in asked]

    assert [answer.get("done") for answer in answers] == [True] * 4, answers


def test_backup_is_restored_into_empty_volumes(site: Site, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    # Whoever runs this need not be the id 1000, which must be able to write there.
    backup.chmod(0o777)
    run = ["run", "--rm", "--no-TTY", "--no-deps", "--volume", f"{backup}:/backup", "web-1"]
    site.containers.compose(*run, "ollamasite", "backup", "/backup/site.tar")
    site.containers.remove()
    site.containers.compose("up", "--no-build", "--detach", "--wait", "postgres")
    site.containers.compose(*run, "ollamasite", "restore", "/backup/site.tar")
    site.containers.start()

    assert site.chat()


def test_stop_ends_each_of_them_by_itself(site: Site) -> None:
    site.containers.compose("stop")
    codes = {name: each["State"]["ExitCode"] for name, each in site.containers.containers().items()}

    assert codes == dict.fromkeys(codes, 0)
