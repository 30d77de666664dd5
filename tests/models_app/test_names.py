"""Model names (contract/ollama.md 4.7 and 8.6)."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models_app.errors import ConflictingSuffixes, InvalidModelName
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
        ("host:https/namespace/model:tag", *["host:https/namespace/model:tag"] * 2),
        ("scheme://host:1/namespace/model:tag", *["host:1/namespace/model:tag"] * 2),
        (
            "a.b_c-1.2:0.5-q4_K.M",
            "a.b_c-1.2:0.5-q4_K.M",
            "registry.ollama.ai/library/a.b_c-1.2:0.5-q4_K.M",
        ),
        ("Mixed/Case:Tag", "Mixed/Case:Tag", "registry.ollama.ai/Mixed/Case:Tag"),
        ("x" * 80, f"{'x' * 80}:latest", f"registry.ollama.ai/library/{'x' * 80}:latest"),
        (f"{'h' * 350}/n/m", *[f"{'h' * 350}/n/m:latest"] * 2),
        ("m:local", "m:latest", "registry.ollama.ai/library/m:latest"),
        ("n/m:7b:LOCAL", "n/m:7b", "registry.ollama.ai/n/m:7b"),
        ("m:localx", "m:localx", "registry.ollama.ai/library/m:localx"),
        ("m:cloud", "m:cloud", "registry.ollama.ai/library/m:cloud"),
        ("m:7b-cloud", "m:7b-cloud", "registry.ollama.ai/library/m:7b-cloud"),
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
        f"{'n' * 81}/m",
        f"m:{'t' * 81}",
        f"{'h' * 351}/n/m",
        "nn/mm:",
        "/nn/mm",
        "//",
        "hh//",
        "m@d",
        "h/-n/m",
        "-h/n/m",
        "host/name:space/model:tag",
        "http://m",
        "http://h/m",
        "a/b/c/d",
        "://h/n/m/",
        "m:cloud:x",
        ":local",
        "ünï",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidModelName):
        ModelName.parse(text.replace("\n", "\nx"))


@pytest.mark.parametrize(
    "text",
    ["x:cloud:local", "x:local:cloud", "n/x:7b-cloud:local", "x:Local:CLOUD", "x:local:local"],
)
def test_two_sources_at_once_are_refused_in_words(text: str) -> None:
    with pytest.raises(ConflictingSuffixes) as refusal:
        ModelName.parse(f" {text} ")
    assert refusal.value.message == f'use either :local or :cloud, not both: "{text}"'


part = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", fullmatch=True)
namespace = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", fullmatch=True)
host = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}", fullmatch=True)


@given(host, namespace, part, part)
def test_every_name_of_allowed_parts_is_read_part_by_part(
    host: str, namespace: str, model: str, tag: str
) -> None:
    assume(tag.lower() not in {"local", "cloud"})
    name = ModelName.parse(f"{host}/{namespace}/{model}:{tag}")
    assert name == ModelName(model=model, tag=tag, namespace=namespace, host=host)


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused_and_a_shown_name_reads_the_same(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidModelName:
        return
    assert ModelName.parse(name.full).full == name.full
    assert ModelName.parse(name.short).full == name.full
