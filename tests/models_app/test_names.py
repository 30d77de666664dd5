"""Model names (contract/ollama.md 4.7 and 8.6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_app.errors import InvalidModelName
from models_app.names import ModelName


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("m", "m:latest", "registry.ollama.ai/library/m:latest"),
        ("smollm2:135m", "smollm2:135m", "registry.ollama.ai/library/smollm2:135m"),
        ("alice/m:t", "alice/m:t", "registry.ollama.ai/alice/m:t"),
        ("library/m", "m:latest", "registry.ollama.ai/library/m:latest"),
        ("registry.ollama.ai/library/m:t", "m:t", "registry.ollama.ai/library/m:t"),
        ("host/library/model:tag", "host/library/model:tag", "host/library/model:tag"),
        ("h:5000/n/m", "h:5000/n/m:latest", "h:5000/n/m:latest"),
        ("http://h:5000/n/m:t", "h:5000/n/m:t", "h:5000/n/m:t"),
        ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
        ("model ", "model:latest", "registry.ollama.ai/library/model:latest"),
    ],
)
def test_names_are_parsed_and_shown(text: str, short: str, full: str) -> None:
    name = ModelName.parse(text)
    assert name.short == short
    assert name.full == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "m:",
        "/m",
        "n//m",
        "-m",
        "n/-m",
        "m:-t",
        "m@sha256:abc",
        "^",
        "n.s/m",
        "name:space/model:tag/x:",
        "../m",
        "a/../b",
        "m\x00",
        "m n",
        "m\n",
        "x" * 81,
        "ünï",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidModelName):
        ModelName.parse(text.replace("\n", "\nx"))


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused_and_a_shown_name_reads_the_same(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidModelName:
        return
    assert ModelName.parse(name.full).full == name.full
    assert ModelName.parse(name.short).full == name.full
