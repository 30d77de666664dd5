"""Each request that Ollama's own API document shows with curl, sent by curl, on a listening site.

Paths and bodies are those of the document of May 2024 (v0.1.34), with this site's models in them.
"""

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from inference.messages import Generate
from registry import manifests
from tests.contract.conftest import RunningSite
from tests.fakes.engine import FAKE_WIDTH
from tests.model_layers import add_layer
from tests.vision_files import write_image

pytestmark = [pytest.mark.slow, pytest.mark.beside]

WHY: Final = "Why is the sky blue?"
ASKED: Final = {"role": "user", "content": "why is the sky blue?"}
ALL_OPTIONS: Final = {
    "num_keep": 5,
    "seed": 42,
    "num_predict": 100,
    "top_k": 20,
    "top_p": 0.9,
    "tfs_z": 0.5,
    "typical_p": 0.7,
    "repeat_last_n": 33,
    "temperature": 0.8,
    "repeat_penalty": 1.2,
    "presence_penalty": 1.5,
    "frequency_penalty": 1.0,
    "mirostat": 1,
    "mirostat_tau": 0.8,
    "mirostat_eta": 0.6,
    "penalize_newline": True,
    "stop": ["\n", "user:"],
    "numa": False,
    "num_ctx": 1024,
    "num_batch": 2,
    "num_gqa": 1,
    "num_gpu": 1,
    "main_gpu": 0,
    "low_vram": False,
    "f16_kv": True,
    "vocab_only": False,
    "use_mmap": True,
    "use_mlock": False,
    "rope_frequency_base": 1.1,
    "rope_frequency_scale": 0.8,
    "num_thread": 8,
}


@dataclass(frozen=True, slots=True)
class Curl:
    """What curl got: the status of the answer, and its body."""

    status: int
    body: bytes

    def lines(self) -> list[Any]:
        """Return the objects of a stream."""
        return [json.loads(line) for line in self.body.splitlines()]

    def one(self) -> Any:
        """Return the only object."""
        return json.loads(self.body)


Send = Callable[..., Curl]


@pytest.fixture
def curl(site: RunningSite, tmp_path: Path) -> Send:
    """Runs curl with a path, a body for `-d`, and whatever else."""
    out = tmp_path / "answer"

    def send(path: str, body: Mapping[str, Any] | None = None, *words: str) -> Curl:
        # Indented, as in the document: the line ends belong to what is sent.
        data = ["-d", json.dumps(body, indent=2)] if body is not None else []
        key = ["-H", f"Authorization: Bearer {site.key}"]
        command = ["curl", "-sS", "-o", str(out), "-w", "%{http_code}", *key, *words]
        done = subprocess.run(
            [*command, f"{site.url}{path}", *data], capture_output=True, check=True, timeout=90
        )
        return Curl(int(done.stdout), out.read_bytes() if out.exists() else b"")

    return send


@pytest.mark.parametrize(
    "more",
    [{}, {"options": {"seed": 123, "temperature": 0}}],
    ids=["plain", "reproducible"],
)
def test_generate_in_a_stream(curl: Send, model: str, more: dict[str, Any]) -> None:
    lines = curl("/api/generate", {"model": model, "prompt": WHY, **more}).lines()

    assert "".join(line["response"] for line in lines) == "Hello."
    assert {"context", "total_duration", "eval_count", "eval_duration"} <= lines[-1].keys()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"format": "json", "prompt": "What color is the sky? Respond using JSON"},
        {"raw": True, "prompt": "[INST] why is the sky blue? [/INST]"},
    ],
    ids=["plain", "json mode", "raw mode"],
)
def test_generate_without_stream(curl: Send, model: str, more: dict[str, Any]) -> None:
    answer = curl("/api/generate", {"model": model, "prompt": WHY, "stream": False, **more}).one()

    assert (answer["response"], answer["done"]) == ("Hello.", True)
    assert ("context" in answer) is ("raw" not in more)


def test_generate_with_every_option(curl: Send, site: RunningSite, model: str) -> None:
    body = {"model": model, "prompt": WHY, "stream": False, "options": ALL_OPTIONS}
    answer = curl("/api/generate", body)
    request = site.wait_for(Generate)

    assert answer.status == 200
    assert (request.sampling.top_k, request.sampling.num_predict) == (20, 100)
    assert request.sampling.repeat_last_n == 33
    assert request.runner.num_ctx == 1024


def test_generate_without_a_prompt_loads(curl: Send, model: str) -> None:
    answer = curl("/api/generate", {"model": model}).one()

    assert (answer["response"], answer["done"]) == ("", True)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_picture_reaches_a_model_that_sees(
    curl: Send, site: RunningSite, model: str, path: str
) -> None:
    add_layer(model, manifests.PROJECTOR, b"a projector")
    picture = base64.b64encode(write_image("PNG")).decode()
    question = "what is in this image?"
    body = (
        {"prompt": question, "images": [picture], "stream": False}
        if path == "/api/generate"
        else {"messages": [{"role": "user", "content": question, "images": [picture]}]}
    )
    answer = curl(path, {"model": model, **body})

    assert answer.status == 200
    assert answer.lines()[-1]["done"]
    site.wait_for(Generate)


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [ASKED]},
        {
            "messages": [
                ASKED,
                {"role": "assistant", "content": "due to rayleigh scattering."},
                {"role": "user", "content": "how is that different than mie scattering?"},
            ]
        },
        {
            "messages": [{"role": "user", "content": "Hello!"}],
            "options": {"seed": 101, "temperature": 0},
        },
    ],
    ids=["one message", "with history", "reproducible"],
)
def test_chat_in_a_stream(curl: Send, model: str, more: dict[str, Any]) -> None:
    lines = curl("/api/chat", {"model": model, **more}).lines()

    assert "".join(line["message"]["content"] for line in lines) == "Hello."
    assert [line["done"] for line in lines] == [False, False, True]


def test_chat_without_stream(curl: Send, model: str) -> None:
    answer = curl("/api/chat", {"model": model, "messages": [ASKED], "stream": False}).one()

    assert answer["message"] == {"role": "assistant", "content": "Hello."}


def test_create_from_the_text_of_a_modelfile(curl: Send, model: str) -> None:
    text = f"FROM {model}\nSYSTEM You are mario from Super Mario Bros."
    lines = curl("/api/create", {"name": "mario", "modelfile": text}).lines()
    shown = curl("/api/show", {"name": "mario"}).one()

    assert lines[-1] == {"status": "success"}
    assert shown["system"] == "You are mario from Super Mario Bros."


def test_create_from_the_servers_disk_is_refused(curl: Send, model: str) -> None:
    refused = curl("/api/create", {"name": "mario", "path": "/root/Modelfile"})

    assert refused.status == 400
    assert "path" in refused.one()["error"]


def test_blob_is_asked_for_then_sent(curl: Send, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"not really a model")
    path = f"/api/blobs/sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"

    assert curl(path, None, "-I").status == 404
    assert curl(path, None, "-T", str(file), "-X", "POST").status == 201
    assert curl(path, None, "-I").status == 200


def test_tags_lists_the_models(curl: Send, model: str) -> None:
    [listed] = curl("/api/tags").one()["models"]

    assert listed["name"] == model


def test_show_takes_a_name(curl: Send, model: str) -> None:
    shown = curl("/api/show", {"name": model}).one()

    assert {"modelfile", "parameters", "template", "details"} <= shown.keys()


def test_copy_then_delete(curl: Send, model: str) -> None:
    copied = curl("/api/copy", {"source": model, "destination": "sky-backup"})
    deleted = curl("/api/delete", {"name": "sky-backup"}, "-X", "DELETE")

    assert (copied.status, copied.body) == (200, b"")
    assert (deleted.status, deleted.body) == (200, b"")
    assert curl("/api/show", {"name": "sky-backup"}).status == 404


def test_embeddings(curl: Send, model: str) -> None:
    body = {"model": model, "prompt": "Here is an article about llamas..."}

    assert len(curl("/api/embeddings", body).one()["embedding"]) == FAKE_WIDTH
