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
_BIN: Final = _HERE.parents[1] / ".clients" / "venv" / "bin"
_TIMEOUT_S: Final = 120.0


def js_calls(host: str, key: str, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Have the official JavaScript client make these calls; return each one's outcome."""
    asked = {"host": host, "key": key, "calls": calls}
    found: list[dict[str, Any]] = _driven([_bin("node"), str(_HERE / "js" / "driver.mjs")], asked)
    return found


def langchain_steps(host: str, key: str, model: str, steps: Sequence[str]) -> list[Any]:
    """Have langchain-ollama do these steps of its driver; return each one's result."""
    asked = {"host": host, "key": key, "model": model, "steps": steps}
    driver = _HERE / "clients" / "langchain_driver.py"
    found: list[Any] = _driven([_bin("python"), str(driver)], asked)
    return found


def run_llm(host: str, key: str, home: Path, *words: str) -> str:
    """Run the command `llm` with its plug-in for Ollama and return what it prints."""
    environment = {"OLLAMA_HOST": host, "OLLAMA_API_KEY": key, "LLM_USER_PATH": str(home)}
    return _output([_bin("llm"), *words], environment=environment)


def _driven(command: list[str], asked: Mapping[str, Any]) -> Any:
    return json.loads(_output(command, sent=json.dumps(asked)))


def _output(
    command: list[str], *, sent: str = "", environment: Mapping[str, str] | None = None
) -> str:
    done = subprocess.run(
        command,
        input=sent,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bin(name: str) -> str:
    path = _BIN / name
    assert path.exists(), f"{path} is missing: `make test` installs it"
    return str(path)
