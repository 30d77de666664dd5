"""The examples of Ollama's own document on OpenAI compatibility, run as they stand there.

Only the address, the key and the picture are this site's (the document's picture is a long one).
The document is of August 2024; its boxes are in `test_openai_boxes`.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from inference.messages import Generate
from registry import manifests
from tests.conftest import MakeModel
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import run_js
from tests.fakes.engine import FAKE_WIDTH
from tests.inference.conftest import CHATML
from tests.model_layers import add_layer
from tests.vision_files import write_image

pytestmark = [pytest.mark.slow, pytest.mark.beside]

ADDRESS: Final = "http://localhost:11434"
PICTURE: Final = base64.b64encode(write_image("PNG")).decode()

PYTHON: Final = """
from openai import OpenAI

client = OpenAI(
    base_url='http://localhost:11434/v1/',

    # required but ignored
    api_key='ollama',
)

chat_completion = client.chat.completions.create(
    messages=[
        {
            'role': 'user',
            'content': 'Say this is a test',
        }
    ],
    model='llama3',
)

response = client.chat.completions.create(
    model="llava",
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What's in this image?"},
                {
                    "type": "image_url",
                    "image_url": "PICTURE",
                },
            ],
        }
    ],
    max_tokens=300,
)

completion = client.completions.create(
    model="llama3",
    prompt="Say this is a test",
)

list_completion = client.models.list()

model = client.models.retrieve("llama3")

embeddings = client.embeddings.create(
    model="all-minilm",
    input=["why is the sky blue?", "why is the grass green?"],
)
"""
# What the tests add: the results are printed.
PYTHON_SHOWS: Final = """
import json
results = (chat_completion, response, completion, list_completion, model, embeddings)
print(json.dumps([result.model_dump() for result in results]))
"""
JAVASCRIPT: Final = """
import OpenAI from 'openai'

const openai = new OpenAI({
  baseURL: 'http://localhost:11434/v1/',

  // required but ignored
  apiKey: 'ollama',
})

const chatCompletion = await openai.chat.completions.create({
    messages: [{ role: 'user', content: 'Say this is a test' }],
    model: 'llama3',
})

const response = await openai.chat.completions.create({
    model: "llava",
    messages: [
        {
        role: "user",
        content: [
            { type: "text", text: "What's in this image?" },
            {
            type: "image_url",
            image_url: "PICTURE",
            },
        ],
        },
    ],
})

const completion = await openai.completions.create({
    model: "llama3",
    prompt: "Say this is a test.",
})

const listCompletion = await openai.models.list()

const model = await openai.models.retrieve("llama3")

const embedding = await openai.embeddings.create({
  model: "all-minilm",
  input: ["why is the sky blue?", "why is the grass green?"],
})
"""
JAVASCRIPT_SHOWS: Final = """
const results = [chatCompletion, response, completion, { data: listCompletion.data }, model]
console.log(JSON.stringify([...results, embedding]))
"""
CURL: Final = r"""
curl http://localhost:11434/v1/chat/completions \
    -H "Content-Type: application/json" \
    -d '{
        "model": "llama3",
        "messages": [
            {
                "role": "system",
                "content": "You are a helpful assistant."
            },
            {
                "role": "user",
                "content": "Hello!"
            }
        ]
    }'

curl http://localhost:11434/v1/chat/completions \
  -H "Content-Type: application/json" \
  -d '{
    "model": "llava",
    "messages": [
      {
        "role": "user",
        "content": [
          {
            "type": "text",
            "text": "What'\''s in this image?"
          },
          {
            "type": "image_url",
            "image_url": {
               "url": "PICTURE"
            }
          }
        ]
      }
    ],
    "max_tokens": 300
  }'

curl http://localhost:11434/v1/completions \
    -H "Content-Type: application/json" \
    -d '{
        "model": "llama3",
        "prompt": "Say this is a test"
    }'

curl http://localhost:11434/v1/models

curl http://localhost:11434/v1/models/llama3

curl http://localhost:11434/v1/embeddings \
    -H "Content-Type: application/json" \
    -d '{
        "model": "all-minilm",
        "input": ["why is the sky blue?", "why is the grass green?"]
    }'
"""
COPIED: Final = """
curl http://localhost:11434/v1/chat/completions \\
    -H "Content-Type: application/json" \\
    -d '{
        "model": "gpt-3.5-turbo",
        "messages": [
            {
                "role": "user",
                "content": "Hello!"
            }
        ]
    }'
"""
# Gives curl the key, and a new line behind each answer.
CURL_WITH_KEY: Final = """
set -e
curl() { command curl -sS --fail-with-body -H "Authorization: Bearer $KEY" "$@"; echo; }
"""


@pytest.fixture
def models(site: RunningSite, make_model: MakeModel) -> None:
    """The three models that the document has pulled before."""
    make_model("llama3", template=CHATML)
    make_model("all-minilm")
    add_layer(make_model("llava", template=CHATML), manifests.PROJECTOR, b"a projector")


Fill = Callable[[str], str]


@pytest.fixture
def filled(site: RunningSite, models: None) -> Fill:
    """Puts the site's address and key and a picture into an example."""

    def fill(text: str) -> str:
        keyed = text.replace("'ollama'", f"'{site.key}'").replace("PICTURE", PICTURE)
        return keyed.replace(ADDRESS, site.url)

    return fill


def _run(command: list[str], script: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        input=script,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _check(results: list[Any], site: RunningSite) -> None:
    """Look at what the six calls of an example returned, and at what the engine was asked."""
    chat, seen, completion, listed, model, embeddings = results
    assert chat["choices"][0]["message"]["content"] == "Hello."
    assert seen["choices"][0]["finish_reason"] in {"stop", "length"}
    assert completion["choices"][0]["text"] == "Hello."
    assert {"llama3:latest", "llava:latest"} <= {entry["id"] for entry in listed["data"]}
    assert (model["id"], model["owned_by"]) == ("llama3", "library")
    assert [len(entry["embedding"]) for entry in embeddings["data"]] == [FAKE_WIDTH] * 2
    prompts = [request.prompt for request in site.node.got(Generate)]
    assert [b"PNG" in msgspec.msgpack.encode(prompt) for prompt in prompts] == [False, True, False]


def test_python_example_runs(site: RunningSite, filled: Fill) -> None:
    printed = _run([sys.executable, "-"], filled(PYTHON) + PYTHON_SHOWS)

    _check(json.loads(printed), site)


def test_javascript_example_runs(site: RunningSite, filled: Fill) -> None:
    printed = run_js(filled(JAVASCRIPT) + JAVASCRIPT_SHOWS)

    _check(json.loads(printed), site)


def test_curl_example_runs(site: RunningSite, filled: Fill) -> None:
    printed = _run(["bash"], CURL_WITH_KEY + filled(CURL), KEY=site.key)

    _check([json.loads(line) for line in printed.split("\n") if line], site)


def test_copied_model_answers_under_openais_name(site: RunningSite, filled: Fill) -> None:
    # `ollama cp llama3 gpt-3.5-turbo` sends this.
    copy = (
        f"""curl {ADDRESS}/api/copy -d '{{"source": "llama3", "destination": "gpt-3.5-turbo"}}'"""
    )
    printed = _run(["bash"], CURL_WITH_KEY + filled(f"{copy}\n{COPIED}"), KEY=site.key)
    answer = json.loads(printed)

    assert answer["model"] == "gpt-3.5-turbo"
    assert answer["choices"][0]["message"]["content"] == "Hello."
