"""Clients that are processes of an environment of their own: started, told what to do, and read.

`make test` installs them. Knows how to start them; nothing of what they ask or of any endpoint.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[1]
_CLIENTS: Final = _ROOT / ".clients"
_TIMEOUT_S: Final = 120.0
_FUZZING_TIMEOUT_S: Final = 400.0
# What schemathesis looks at: that nothing fails, and that the answers are as described.
_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def js_calls(host: str, key: str, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Have the official JavaScript client make these calls; return each one's outcome."""
    asked = {"host": host, "key": key, "calls": calls}
    found: list[dict[str, Any]] = _driven([_bin("node"), str(_HERE / "js" / "driver.mjs")], asked)
    return found


def openai_js_calls(
    host: str, key: str, calls: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Have OpenAI's JavaScript client make these calls; return each one's outcome."""
    asked = {"host": host, "key": key, "calls": calls}
    command = [_bin("node"), str(_HERE / "js" / "openai_driver.mjs")]
    found: list[dict[str, Any]] = _driven(command, asked)
    return found


def run_js(script: str) -> str:
    """Run an ES module that may import the npm packages of the tests; return what it prints."""
    command = [_bin("node"), "--input-type=module"]
    return _output(command, sent=script, folder=_HERE / "js")


class Driver:
    """A client of Python in a process that lives on: importing one takes seconds."""

    def __init__(
        self, name: str, *, venv: str = "venv", environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [_bin("python", venv), "-m", f"tests.contract.clients.{name}_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            text=True,
        )

    def do(self, host: str, key: str, model: str, steps: Sequence[str]) -> list[Any]:
        """Have these steps done; return each one's result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"host": host, "key": key, "model": model, "steps": steps}
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver has ended: what it printed on standard error says why"
        found: list[Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=_TIMEOUT_S)


def litellm_driver() -> Driver:
    """Start litellm, which has an environment of its own."""
    # It would ask the internet for the prices of models.
    return Driver("litellm", venv="litellm", environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def run_llm(host: str, key: str, home: Path, *words: str) -> str:
    """Run the command `llm` with its plug-in for Ollama and return what it prints."""
    environment = {"OLLAMA_HOST": host, "OLLAMA_API_KEY": key, "LLM_USER_PATH": str(home)}
    return _output([_bin("llm"), *words], environment=environment)


def run_schemathesis(host: str, key: str, model: str, home: Path) -> str:
    """Have schemathesis try the site's OpenAPI document; return what it found wrong, if anything.

    The seed is fixed and the number of requests too, so that what fails once fails again.
    """
    hooks = _HERE / "clients" / "schemathesis_hooks.py"
    environment = {
        "FUZZED_MODEL": model,
        "SCHEMATHESIS_HOOKS": hooks.stem,
        "PYTHONPATH": str(hooks.parent),
    }
    options = {
        "--header": f"Authorization: Bearer {key}",
        "--checks": ",".join(_CHECKS),
        "--phases": "examples,fuzzing",
        "--max-examples": "5",
        "--seed": "1",
        "--request-timeout": "60",
        "--workers": "2",
    }
    words = [word for option in options.items() for word in option]
    command = [_bin("schemathesis"), "run", f"{host}/openapi.json", *words, "--no-color"]
    done = _run(command, environment=environment, folder=home, timeout_s=_FUZZING_TIMEOUT_S)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _driven(command: list[str], asked: Mapping[str, Any]) -> Any:
    return json.loads(_output(command, sent=json.dumps(asked)))


def _output(
    command: list[str],
    *,
    sent: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    done = _run(command, sent=sent, environment=environment, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(
    command: list[str],
    *,
    sent: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=sent,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _bin(name: str, venv: str = "venv") -> str:
    path = _CLIENTS / venv / "bin" / name
    assert path.exists(), f"{path} is missing: `make test` installs it"
    return str(path)
