"""Capabilities follow from the architecture and the template's variables."""

import pytest

from registry.capabilities import capabilities_of


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
