"""Capabilities follow from the architecture and the template's variables."""

import pytest

from registry.capabilities import capabilities_of, with_parser


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ("completion",)),
        ("{{ .Prompt }}", ("completion",)),
        ("{{ if .Tools }}{{ .Tools }}{{ end }}", ("completion", "tools")),
        ("{{- range $.Tools }}{{ end }}", ("completion", "tools")),
        ("{{ .Prompt }}{{ .Suffix }}", ("completion", "insert")),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", ("completion", "thinking")),
        ("{{ .Thinking }}{{ .Suffix }}{{ .Tools }}", ("completion", "tools", "insert", "thinking")),
        (".Tools .Suffix", ("completion",)),
        ("{{/* .Tools */}}{{- /* .Suffix */ -}}", ("completion",)),
        ('{{ print ".Tools" }}{{ print `.Suffix` }}', ("completion",)),
        ("{{ .ToolsAreNot }}", ("completion",)),
        ("{{ .Tools", ("completion",)),
    ],
)
def test_template_variables_tell(template: str, expected: tuple[str, ...]) -> None:
    assert capabilities_of("llama", {}, template) == expected


@pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "jina-bert-v2", "modern-bert"])
def test_bert_likes_embed(architecture: str) -> None:
    assert capabilities_of(architecture, {}, "") == ("embedding",)


def test_pooling_makes_an_embedding_model() -> None:
    assert capabilities_of("qwen3", {"qwen3.pooling_type": 3}, "") == ("embedding",)


@pytest.mark.parametrize(
    "keys", [("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle")]
)
def test_vocabulary_with_fill_tokens_can_insert(keys: tuple[str, ...]) -> None:
    metadata = {f"tokenizer.ggml.{key}_token_id": 7 for key in keys}

    assert capabilities_of("llama", metadata, "") == ("completion", "insert")


def test_some_of_the_fill_tokens_are_not_enough() -> None:
    metadata = {"tokenizer.ggml.fim_pre_token_id": 7, "tokenizer.ggml.suffix_token_id": 8}

    assert capabilities_of("llama", metadata, "") == ("completion",)


def test_projector_lets_a_model_see() -> None:
    template = "{{ .Suffix }}{{ .Thinking }}"

    assert capabilities_of("llama", {}, template, has_projector=True) == (
        "completion",
        "insert",
        "vision",
        "thinking",
    )


def test_metadata_may_say_that_a_model_sees() -> None:
    assert capabilities_of("mllama", {"mllama.vision.block_count": 3}, "") == (
        "completion",
        "vision",
    )


JINJA_TOOLS = "{% if tools %}{{ tools }}{% endif %}"
JINJA_THINKS = "{% if enable_thinking %}<think>{% endif %}"


def jinja(template: str) -> dict[str, str]:
    return {"tokenizer.chat_template": template}


@pytest.mark.parametrize(
    ("template", "files", "expected"),
    [
        ("", JINJA_TOOLS, ("completion", "tools")),
        ("", JINJA_THINKS, ("completion", "thinking")),
        ("", JINJA_TOOLS + JINJA_THINKS, ("completion", "tools", "thinking")),
        ("{{ .Prompt }}{{ .Suffix }}", JINJA_TOOLS, ("completion", "tools", "insert")),
        ("{{ .Tools }}", JINJA_THINKS, ("completion", "tools")),
        ("{{ .Tools }}", "{{ messages }}", ("completion", "tools")),
    ],
)
def test_template_in_use_tells(template: str, files: str, expected: tuple[str, ...]) -> None:
    assert capabilities_of("llama", jinja(files), template) == expected


@pytest.mark.parametrize(
    ("parser", "expected"),
    [
        ("", ("completion",)),
        ("no-such-parser", ("completion",)),
        ("qwen3-coder", ("completion", "tools")),
        ("olmo3-think", ("completion", "thinking")),
        ("harmony", ("completion", "tools", "thinking")),
    ],
)
def test_parser_tells_what_the_answers_hold(parser: str, expected: tuple[str, ...]) -> None:
    assert capabilities_of("llama", {}, "", parser=parser) == expected


def test_parser_adds_to_what_is_known() -> None:
    assert with_parser(("completion", "vision"), "harmony") == (
        "completion",
        "tools",
        "vision",
        "thinking",
    )


def test_renderer_puts_the_files_template_first() -> None:
    assert capabilities_of("llama", jinja(JINJA_THINKS), "{{ .Tools }}", renderer="any") == (
        "completion",
        "thinking",
    )
