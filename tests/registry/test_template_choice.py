"""Which of two templates is used, and what each of them mentions."""

from typing import Any

import pytest

from registry.template_choice import (
    Traits,
    choose_template,
    go_traits,
    is_better,
    jinja_traits,
)
from tests.inference.prompting.templates import GO_TOOLS, JINJA_TOOLS
from tests.timing import takes_at_most

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
GO = "{{ range .Messages }}{{ .Content }}{{ end }}"
NOTHING = Traits()
TOOLS = Traits(has_tools=True)
ROUND = Traits(has_tools=True, has_round_trip=True)
THINKING = Traits(has_thinking=True)
ALL = Traits(has_tools=True, has_thinking=True, has_round_trip=True)


def chosen(go: str, jinja: str = "", **fields: Any) -> tuple[str, bool]:
    found = choose_template(go, {"tokenizer.chat_template": jinja} if jinja else {}, **fields)
    return found.text, found.is_jinja


@pytest.mark.parametrize(
    ("go", "jinja", "expected"),
    [
        ("", "", ("", False)),
        (GO, "", (GO, False)),
        ("", PLAIN, (PLAIN, True)),
        (GO, PLAIN, (GO, False)),
        (GO, JINJA_TOOLS, (JINJA_TOOLS, True)),
        (GO_TOOLS, PLAIN, (GO_TOOLS, False)),
        (GO_TOOLS, JINJA_TOOLS, (GO_TOOLS, False)),
    ],
)
def test_template_that_shows_more_is_used(go: str, jinja: str, expected: tuple[str, bool]) -> None:
    assert chosen(go, jinja) == expected


def test_renderer_stands_for_the_files_template() -> None:
    assert chosen(GO, PLAIN, renderer="some-renderer") == (PLAIN, True)
    assert chosen(GO, renderer="some-renderer") == (GO, False)


@pytest.mark.parametrize(("has_tools", "expected"), [(True, JINJA_TOOLS), (False, PLAIN)])
def test_variant_for_tools_is_used_with_tools(has_tools: bool, expected: str) -> None:
    metadata = {
        "tokenizer.chat_template": PLAIN,
        "tokenizer.chat_template.tool_use": JINJA_TOOLS,
    }
    found = choose_template("", metadata, has_tools=has_tools)

    assert (found.text, found.traits.has_tools) == (expected, True)


def test_a_template_that_is_no_text_is_none() -> None:
    assert choose_template(GO, {"tokenizer.chat_template": None}).text == GO


@pytest.mark.parametrize(
    ("jinja", "go", "expected"),
    [
        (NOTHING, NOTHING, False),
        (TOOLS, NOTHING, True),
        (THINKING, NOTHING, True),
        (THINKING, TOOLS, False),
        (TOOLS, ROUND, False),
        (TOOLS, TOOLS, False),
        (ROUND, TOOLS, True),
        (ROUND, ROUND, False),
        (ALL, ROUND, True),
        (Traits(has_tools=True, has_thinking=True), ROUND, False),
        (ROUND, ALL, False),
    ],
)
def test_jinja_is_taken_where_it_shows_more(jinja: Traits, go: Traits, expected: bool) -> None:
    assert is_better(jinja=jinja, go=go) is expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", NOTHING),
        (PLAIN, NOTHING),
        ("{% if tools %}{% endif %}", TOOLS),
        ("{% if custom_tools %}{% endif %}", NOTHING),
        ("{# tools #}tools{{ 'tools' }}", NOTHING),
        ("{{ 'it''s' }}{{ tools }}", TOOLS),
        ("{% if enable_thinking is defined %}{% endif %}", THINKING),
        ("{{ message['reasoning_content'] }}", THINKING),
        ("{{ message.thinking }}", THINKING),
        ("{{ '<|assistant|><think>' }}", THINKING),
        ("{{ 'You are a thinking assistant.' }}", NOTHING),
        ("{% if m.tool_calls %}{% elif m.role == 'tool' %}{{ tools }}{% endif %}", ROUND),
        ("{% if m.tool_calls %}{{ tools }}{% endif %}", TOOLS),
        (JINJA_TOOLS, ALL),
        ("{% if tools", NOTHING),
    ],
)
def test_jinja_template_tells_what_it_shows(template: str, expected: Traits) -> None:
    assert jinja_traits(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ .Suffix }}", Traits(has_suffix=True)),
        ("{{- .ToolCalls }}{{ .Tools }}", TOOLS),
        ('{{ .ToolCalls }}{{ .Tools }}{{ if eq .Role "tool" }}{{ end }}', ROUND),
        ("{{ .ToolCalls }}{{ .Tools }}{{ .ToolName }}", ROUND),
        ("{{ .ToolCalls }}{{ .Tools }}{{- .Role -}}", ROUND),
        (GO_TOOLS, ALL),
    ],
)
def test_go_template_tells_what_it_shows(template: str, expected: Traits) -> None:
    assert go_traits(template) == expected


@pytest.mark.parametrize(
    "part",
    ["{{", "{#", "{% '", "'\\", '{{ "\\"', "{{ `", "{{.Role", "<think", "{%%}", "'", "{{''}}"],
)
def test_a_hostile_template_is_read_in_little_time(part: str) -> None:
    source = part * (200_000 // len(part))
    with takes_at_most(0.5):
        jinja_traits(source)
        go_traits(source)
