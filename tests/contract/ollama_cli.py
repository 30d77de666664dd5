"""What the `ollama` command sends, call for call, as a client to test with.

The command is a Go program, which prints every field that has no `omitempty`: empty texts, null and
both names of the model are in its bodies. Follows contract/ollama.md 9.1. Signs nothing: a key
comes with each request. Knows no model.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

_LONGEST_LINE_BYTES: Final = 8 * 2**20
_UNAUTHORIZED: Final = 401


class CliError(Exception):
    """What the command prints behind `Error: `."""


@dataclass
class OllamaCli:
    """The commands. Each asks first whether anybody is there, as the real one does."""

    url: str
    key: str
    http: httpx2.Client = field(init=False)
    uploaded: list[str] = field(default_factory=list)  # digests of the files that were sent

    def __post_init__(self) -> None:
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "User-Agent": "ollama/0.33.0 (amd64 linux) Go/go1.24.1",
        }
        self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def run(self, model: str, prompt: str) -> str:
        """`ollama run MODEL PROMPT`: show, load, generate."""
        self._heartbeat()
        self.show(model)
        self._load(model)
        parts = self._stream("POST", "/api/generate", _generate_body(model, prompt))
        return "".join(part["response"] for part in parts)

    def chat(self, model: str, *questions: str, think: bool | None = None) -> list[str]:
        """`ollama run MODEL`, with questions typed in turn: the history goes along."""
        self._heartbeat()
        self.show(model)
        self._load(model)
        messages: list[dict[str, Any]] = []
        for question in questions:
            messages.append({"role": "user", "content": question})
            body: dict[str, Any] = {
                "model": model,
                "messages": messages,
                "format": "",
                "options": {},
            }
            if think is not None:
                body["think"] = think
            parts = self._stream("POST", "/api/chat", body)
            said = "".join(part["message"]["content"] for part in parts)
            messages.append({"role": "assistant", "content": said})
        return [message["content"] for message in messages if message["role"] == "assistant"]

    def create(self, model: str, files: Mapping[str, Path], **fields: Any) -> list[str]:
        """`ollama create MODEL`: every file by HEAD and POST, then the fields of its Modelfile."""
        self._heartbeat()
        body: dict[str, Any] = {"model": model, "name": "", "modelfile": "", **fields}
        if files:
            body["files"] = {name: self._upload(path) for name, path in files.items()}
        return [part["status"] for part in self._stream("POST", "/api/create", body)]

    def list_models(self) -> list[str]:
        """`ollama list`: the names."""
        self._heartbeat()
        return [model["name"] for model in self._do("GET", "/api/tags")["models"]]

    def ps(self) -> list[str]:
        """`ollama ps`: the names of what is loaded."""
        self._heartbeat()
        return [model["name"] for model in self._do("GET", "/api/ps")["models"]]

    def show(self, model: str) -> dict[str, Any]:
        """`ollama show`."""
        body = {
            "model": model,
            "system": "",
            "template": "",
            "verbose": False,
            "options": None,
            "name": "",
        }
        shown: dict[str, Any] = self._do("POST", "/api/show", body)
        return shown

    def copy(self, source: str, destination: str) -> None:
        """`ollama cp`."""
        self._heartbeat()
        self._do("POST", "/api/copy", {"source": source, "destination": destination})

    def stop(self, model: str) -> None:
        """`ollama stop`: unloads."""
        self._heartbeat()
        body = _generate_body(model, "", keep_alive=0)
        [answer] = self._stream("POST", "/api/generate", body)
        assert answer["done_reason"] == "unload"

    def remove(self, model: str) -> None:
        """`ollama rm`: unloads, then deletes."""
        self.stop(model)
        self._do("DELETE", "/api/delete", {"model": model, "name": ""})

    def _heartbeat(self) -> None:
        answer = self.http.head("/")
        if answer.is_error:
            raise CliError("could not connect to ollama server")

    def _load(self, model: str) -> None:
        [answer] = self._stream("POST", "/api/generate", _generate_body(model, ""))
        assert (answer["response"], answer["done"]) == ("", True)

    def _upload(self, path: Path) -> str:
        data = path.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.http.head(f"/api/blobs/{digest}").is_error:
            _check(self.http.post(f"/api/blobs/{digest}", content=_pieces(data)))
            self.uploaded.append(digest)
        return digest

    def _do(self, method: str, path: str, body: Any = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        answer = self.http.request(
            method, path, content=sent, headers={"Accept": "application/json"}
        )
        _check(answer)
        return answer.json() if answer.content else None

    def _stream(self, method: str, path: str, body: Any) -> Iterator[dict[str, Any]]:
        headers = {"Accept": "application/x-ndjson"}
        sent = json.dumps(body).encode()
        with self.http.stream(method, path, content=sent, headers=headers) as answer:
            if answer.is_error:
                answer.read()
                _check(answer)
            for line in answer.iter_lines():
                assert len(line.encode()) < _LONGEST_LINE_BYTES
                part = json.loads(line)
                if "error" in part:
                    raise CliError(part["error"])
                yield part


def _generate_body(model: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "suffix": "",
        "system": "",
        "template": "",
        "options": {},
        **more,
    }


def _pieces(data: bytes, size: int = 65_536) -> Iterator[bytes]:
    """Yield a body in pieces; without a length it is sent chunked, as Go sends a file."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _check(answer: httpx2.Response) -> None:
    if answer.status_code == _UNAUTHORIZED:
        raise CliError("unauthorized")
    if answer.is_error:
        raise CliError(answer.json()["error"])
