"""The two servers of a measurement: this site as `ollamasite serve`, and llama.cpp's server.

Both as users start them, with the same file, slots, window and threads. Knows no load.
"""

import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import processes, workplace
from bench.chat import Target
from bench.processes import Process
from bench.workplace import PLACE, BenchModel

_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What both servers are given."""

    slots: int
    window_tokens: int
    threads: int = workplace.THREADS


@dataclass(frozen=True, slots=True)
class SiteModel:
    """A model of the site: weights, and perhaps a system text of its own."""

    name: str
    base: BenchModel
    system: str = ""


class Site:
    """This site, all its processes, on a fresh data directory."""

    def __init__(
        self,
        name: str,
        shape: Shape,
        models: Sequence[SiteModel],
        users: Sequence[str],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = processes.free_port()
        self.data_dir = PLACE / f"site-{name}"
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.environment = site_environment(self.data_dir, shape) | dict(settings or {})
        self.keys = prepare(self.data_dir, self.environment, models, users)
        self._name = name
        self._process: Process | None = None

    def start(self) -> None:
        """Start `serve` and wait until requests would succeed. Raises ProcessError."""
        self._process = Process(
            serve_command(self.port, self.data_dir),
            PLACE / "logs" / f"site-{self._name}.log",
            self.environment,
        )
        self._process.wait_until(lambda: answers(self.port, "/readyz"))

    def stop(self) -> None:
        """End all its processes."""
        if self._process is not None:
            self._process.stop()

    @property
    def pids(self) -> list[int]:
        """The supervisor and everything that it has started."""
        if self._process is None:
            return []
        return [self._process.pid, *processes.descendants(self._process.pid)]

    def last_words(self) -> str:
        """Return the end of the log."""
        return self._process.last_words() if self._process else ""

    def target(self, model: str, user: str) -> Target:
        """Return how a user reaches a model."""
        return Target(port=self.port, model=model, key=self.keys[user])

    def load(self, model: str, user: str) -> None:
        """Bring a model into memory. Raises ProcessError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {"Authorization": f"Bearer {self.keys[user]}"}
        connection.request("POST", "/api/generate", json.dumps({"model": model}), headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != _OK:
            raise processes.ProcessError(f"{model}: {body.decode()}\n{self.last_words()}")


class LlamaServer:
    """llama.cpp's server with one model."""

    def __init__(self, model: BenchModel, shape: Shape) -> None:
        self.port = processes.free_port()
        self._model = model
        self._shape = shape
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it is ready. Raises ProcessError."""
        template = PLACE / f"{self._model.name}.jinja"
        template.write_text(self._model.jinja_template)
        script = Path(__file__).with_name("llama_server.py")
        numbers = {
            "--port": self.port,
            "--slots": self._shape.slots,
            "--window": self._shape.window_tokens,
            "--threads": self._shape.threads,
        }
        argv = [str(workplace.PEER_PYTHON), str(script)]
        argv += ["--model", str(self._model.file()), "--template-file", str(template)]
        argv += [str(part) for pair in numbers.items() for part in pair]
        self._process = Process(argv, PLACE / "logs" / f"llama-{self._model.name}.log")
        self._process.wait_until(lambda: answers(self.port, "/health"))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [self._process.pid] if self._process else []

    def target(self) -> Target:
        """Return how to reach it: prompts are cached, and sampling is as cheap as it can be."""
        extra = {"cache_prompt": True, "samplers": ["top_k"], "top_k": 1}
        return Target(port=self.port, model=self._model.name, extra=extra)


def site_environment(data_dir: Path, shape: Shape) -> dict[str, str]:
    """Return the settings of a site that shall be compared."""
    return {
        "OLLAMASITE_DATA_DIR": str(data_dir),
        "OLLAMASITE_NUM_PARALLEL": str(shape.slots),
        "OLLAMASITE_CONTEXT_LENGTH": str(shape.window_tokens),
        "OLLAMASITE_NUM_THREAD": str(shape.threads),
        "OLLAMASITE_KEEP_ALIVE": "-1",
    }


def serve_command(port: int, data_dir: Path) -> list[str]:
    """Return the command line that starts the site."""
    place = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
    return [sys.executable, "-m", "ollamasite", "serve", "--no-starter-model", *place]


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def prepare(
    data_dir: Path,
    environment: Mapping[str, str],
    models: Sequence[SiteModel],
    users: Sequence[str],
) -> dict[str, str]:
    """Make a data directory with models and users; return the users' keys."""
    wanted = {
        "data_dir": str(data_dir),
        "users": list(users),
        "models": [
            {
                "name": model.name,
                "file": str(model.base.file()),
                "template": model.base.go_template,
                "system": model.system,
            }
            for model in models
        ],
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.site_setup"],
        input=json.dumps(wanted).encode(),
        env={"DJANGO_SETTINGS_MODULE": "ollamasite.settings", **environment},
        cwd=workplace.ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    keys: dict[str, str] = json.loads(done.stdout)
    return keys
