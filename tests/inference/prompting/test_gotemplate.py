"""The Go interpreter: golden cases made with real Go, what is newer than them, hostile input."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.prompting.errors import (
    TemplateError,
    TemplateLimitError,
    TemplateParseError,
    TemplateRunError,
)
from inference.prompting.functions import FUNCTIONS
from inference.prompting.gotemplate import Budget, Stringer, execute, parse
from inference.prompting.gotemplate.builtins import BUILTINS
from inference.prompting.gotemplate.lexer import tokenize
from inference.prompting.limits import MAX_TEXT
from tests.timing import takes_at_most

NAMES = frozenset(BUILTINS) | frozenset(FUNCTIONS)
GOLDEN = json.loads((Path(__file__).parent / "data" / "go_text_template.json").read_text("utf-8"))
ERRORS = {"parse": TemplateParseError, "run": TemplateRunError}


def render(source: str, value: Any = None, **fields: Any) -> str:
    return execute(parse(source, NAMES), fields if value is None else value, FUNCTIONS, Budget())


class TestGolden:
    @pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["template"][:60])
    def test_agrees_with_real_go(self, case: dict[str, str]) -> None:
        if "error" in case:
            with pytest.raises(ERRORS[case["error"]]):
                render(case["template"], GOLDEN["value"])
        else:
            assert render(case["template"], GOLDEN["value"]) == case["text"]


class TestNewerThanTheOracle:
    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("{{ range 3 }}{{ . }}{{ end }}", "012"),
            ("{{ range $i := 3 }}{{ $i }}{{ end }}", "012"),
            ("{{ range 0 }}x{{ else }}none{{ end }}", "none"),
            ("{{ with .no }}a{{ else with .yes }}{{ . }}{{ else }}c{{ end }}", "1"),
            ("{{ slice .text 0 (len .text) }}", "abc"),
            ("{{ eq .list nil }}", "false"),
        ],
    )
    def test_agrees_with_the_documentation(self, source: str, text: str) -> None:
        assert render(source, yes=1, text="abc", list=[1]) == text

    def test_two_variables_cannot_range_over_a_number(self) -> None:
        with pytest.raises(TemplateRunError, match="more than one variable"):
            render("{{ range $i, $j := 3 }}{{ end }}")


class TestBetterThanGo:
    def test_field_of_a_list_is_no_value_instead_of_an_error(self) -> None:
        assert render("{{ .list.Tools }}|{{ if .list.Tools }}x{{ end }}", list=[1]) == "<no value>|"

    def test_cut_character_comes_out_as_a_replacement_character(self) -> None:
        assert render("{{ slice .text 0 1 }}", text="é") == "\ufffd"

    def test_halves_of_a_character_come_together_again(self) -> None:
        assert render("{{ slice .text 0 1 }}{{ slice .text 1 }}", text="é") == "é"


class TestErrors:
    def test_parse_error_names_the_line(self) -> None:
        with pytest.raises(TemplateParseError, match="line 3"):
            parse("a\nb\n{{ nosuch }}", NAMES)

    def test_run_error_names_the_line(self) -> None:
        with pytest.raises(TemplateRunError, match="line 2"):
            render("a\n{{ index .list 9 }}", list=[1])


class TestStringers:
    class Shout(dict[str, object], Stringer):
        def go_string(self) -> str:
            return "LOUD"

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("{{ .v }}", "LOUD"),
            ('{{ printf "%s %v %q" .v .v .v }}', 'LOUD LOUD "LOUD"'),
            ("{{ .v.String }}", "LOUD"),
            ("{{ print .list }}", "[LOUD]"),
            ("{{ .v.k }}{{ len .v }}", "v1"),
        ],
    )
    def test_prints_as_its_text_and_stays_a_map(self, source: str, text: str) -> None:
        shout = self.Shout(k="v")
        assert render(source, v=shout, list=[shout]) == text


LONG = "é" * 1_000_000
LARGE = [{"k": ["x" * 50] * 50}] * 2_000


class TestHostileTemplates:
    @pytest.mark.parametrize(
        "source",
        [
            '{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
            '{{ define "a" }}{{ template "b" }}{{ template "b" }}{{ end }}'
            '{{ define "b" }}{{ template "c" }}{{ template "c" }}{{ end }}'
            '{{ define "c" }}{{ template "a" }}{{ end }}{{ template "a" }}',
            "{{ range 1000000000 }}{{ range 1000000000 }}{{ end }}{{ end }}",
            "{{ range 9223372036854775807 }}x{{ end }}",
            "{{ range .large }}{{ range $.large }}{{ range $.large }}{{ end }}{{ end }}{{ end }}",
            '{{ $x := "aaaaaaaa" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}',
            '{{ $x := "aaaaaaaa" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}',
            '{{ $x := "<" }}{{ range 60 }}{{ $x = html $x $x }}{{ end }}',
            '{{ $x := "<" }}{{ range 60 }}{{ $x = js $x $x }}{{ end }}',
            '{{ $x := "<" }}{{ range 60 }}{{ $x = urlquery $x $x }}{{ end }}',
            '{{ $x := "\\"" }}{{ range 60 }}{{ $x = printf "%q%q" $x $x }}{{ end }}',
            '{{ $x := "\\"" }}{{ range 60 }}{{ $x = json (json $x) }}{{ end }}',
            '{{ range 200000 }}{{ $x := printf "%1000000d" 1 }}{{ end }}',
            '{{ range 200000 }}{{ $x := printf "%*d" 1000000 1 }}{{ end }}',
            '{{ range 200000 }}{{ $x := printf "%.1000000f" 1.5 }}{{ end }}',
            '{{ range 200000 }}{{ $x := printf "%1000000d" $.numbers }}{{ end }}',
            "{{ range 200000 }}{{ $x := len $.long }}{{ end }}",
            "{{ range 200000 }}{{ $x := index $.long 1 }}{{ end }}",
            "{{ range 200000 }}{{ $x := slice $.long 1 }}{{ end }}",
            "{{ range 200000 }}{{ $x := eq $.long $.copy }}{{ end }}",
            "{{ range 200000 }}{{ $x := lt $.long $.copy }}{{ end }}",
            "{{ range 200000 }}{{ $x := json $.large }}{{ end }}",
            "{{ range 200000 }}{{ $x := print $.large }}{{ end }}",
            "{{ range 200000 }}{{ $x := slice $.large 1 }}{{ end }}",
            "{{ range 200000 }}{{ $.long }}{{ end }}",
            "{{ $x := 0 }}{{ range 200000 }}" + "{{ $x := 1 }}" * 2000 + "{{ end }}",
            "{{ range 200000 }}" + "x" * 100_000 + "{{ end }}",
        ],
        ids=lambda source: source[:50],
    )
    def test_ends_soon_with_a_limit_error(self, source: str) -> None:
        copy = "".join(list(LONG))
        with takes_at_most(1), pytest.raises(TemplateLimitError):
            render(source, long=LONG, copy=copy, large=LARGE, numbers=[1] * 1000)

    @pytest.mark.parametrize(
        "source",
        [
            "{{ if .x }}" * 5000 + "{{ end }}" * 5000,
            "{{ range .x }}" * 300,
            "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
            "{{ if 1 }}a" + "{{ else if 1 }}a" * 5000 + "{{ end }}",
            "{{.}}" * 60_000,
            "{{ " + ". " * 120_000 + "}}",
            "x" * 300_000,
            "é" * 200_000,
        ],
        ids=lambda source: source[:20],
    )
    def test_source_is_refused_soon(self, source: str) -> None:
        with takes_at_most(1), pytest.raises(TemplateLimitError):
            parse(source, NAMES)

    @pytest.mark.parametrize(
        "source", ["{{ 1a }}", "{{ +a }}", "{{ .5x }}", "{{ -", "{{ 1.2.3a }}"]
    )
    def test_bad_numbers_end_the_lexer(self, source: str) -> None:
        with pytest.raises(TemplateParseError):
            tokenize(source)

    def test_two_hundred_nested_actions_still_render(self) -> None:
        source = "{{ if 1 }}" * 200 + "x" + "{{ end }}" * 200
        assert render(source) == "x"

    def test_result_may_not_exceed_the_limit(self) -> None:
        half = "x" * (MAX_TEXT // 2)
        assert len(render("{{ .a }}{{ .a }}", a=half)) == MAX_TEXT
        with pytest.raises(TemplateLimitError):
            render("{{ .a }}{{ .a }}.", a=half)

    def test_values_nested_without_end_do_not_print(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        for source in ("{{ .v }}", "{{ json .v }}"):
            with pytest.raises(TemplateLimitError):
                render(source, v=loop)


PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "if",
        "range",
        "else",
        "end",
        "with",
        "define",
        "block",
        "template",
        "break",
        "continue",
        ".x",
        ".x.y",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        '"a"',
        "`b`",
        "'c'",
        "1",
        "-1.5",
        "0x",
        "nil",
        "true",
        "len",
        "printf",
        '"%*[2]d"',
        "/*",
        "*/",
        "\n",
        "text",
        "é",
        '"',
        "eq",
        "index",
        "slice",
        "json",
        "html",
        ".",
        "..",
        "\\",
    ]
)


class TestAnyText:
    @staticmethod
    def run(source: str) -> None:
        with takes_at_most(1), contextlib.suppress(TemplateError):
            template = parse(source, NAMES)
            execute(template, {"x": {"y": [1, "a", None]}}, FUNCTIONS, Budget())

    @given(st.text(max_size=300))
    def test_is_rendered_or_refused(self, text: str) -> None:
        self.run(text)
        self.run("{{" + text + "}}")

    @settings(max_examples=300)
    @given(st.lists(PIECES, max_size=40))
    def test_of_the_language_is_rendered_or_refused(self, pieces: list[str]) -> None:
        self.run("".join(pieces))
        self.run(" ".join(pieces))

    @given(st.text(max_size=200).filter(lambda text: "{{" not in text))
    def test_without_actions_comes_out_as_it_is(self, text: str) -> None:
        assert render(text) == text.encode("utf-8", "replace").decode()

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
    def test_quoted_comes_out_as_it_is(self, text: str) -> None:
        quoted = render('{{ printf "%q" .v }}', v=text)
        assert render("{{ " + quoted + " }}") == text

    @given(st.lists(st.sampled_from([".A", "$x", "(", ")", "12", '"s"', "|", "word"]), max_size=20))
    def test_lexer_keeps_every_word_of_an_action(self, words: list[str]) -> None:
        words = [word for word in words if word not in "()"]
        tokens = tokenize("{{ " + " ".join(words) + " }}")
        assert [token.text for token in tokens[1:-2]] == words

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_json_numbers_read_back_as_they_were(self, number: float) -> None:
        assert float(render("{{ json .v }}", v=number)) == number

    @given(
        st.recursive(
            st.none() | st.booleans() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text(max_size=5), inner, max_size=4)
            ),
            max_leaves=20,
        )
    )
    def test_json_reads_back_as_it_was(self, value: Any) -> None:
        def clean(part: Any) -> Any:
            if isinstance(part, str):
                return part.encode("utf-8", "replace").decode()
            if isinstance(part, list):
                return [clean(each) for each in part]
            if isinstance(part, dict):
                return {clean(name): clean(each) for name, each in part.items()}
            return part

        assert json.loads(render("{{ json .v }}", v=value)) == clean(value)
