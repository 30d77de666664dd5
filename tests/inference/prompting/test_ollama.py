"""Ollama's rules about Go templates: turns, shapes of messages and tools, the cut at the answer."""

import datetime
import itertools
from typing import Any

import pytest

from inference.messages import ChatMessage, ChatPrompt, ToolCall
from inference.prompting.errors import TemplateLimitError, TemplateParseError, TemplateRunError
from inference.prompting.ollama import render_chat, render_fill, thinking_tags, variables
from inference.prompting.turns import place_image_tags
from tests.timing import takes_at_most

CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
LEGACY = (
    "{{ if .System }}<sys>{{ .System }}{{ end }}{{ if .Prompt }}<user>{{ .Prompt }}{{ end }}"
    "<bot>{{ .Response }}</s>"
)
FILL = "{{ if .Suffix }}<pre>{{ .Prompt }}<suf>{{ .Suffix }}<mid>{{ else }}{{ .Prompt }}{{ end }}"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now>",
        "strict": True,
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {
                "zone": {"type": ["string", "null"]},
                "city": {"type": "string", "description": "Größe", "enum": ["a", 2]},
                "place": {"type": "object", "properties": {"z": {"type": "integer"}, "a": {}}},
            },
        },
    },
}
PARAMETERS = (
    '{"type":"object","required":["city"],"properties":{'
    '"city":{"type":"string","description":"Größe","enum":["a",2]},'
    '"place":{"type":"object","properties":{"z":{"type":"integer"},"a":{}}},'
    '"zone":{"type":["string","null"]}}}'
)
FUNCTION = (
    '{"name":"get_weather","description":"Weather \\u003cnow\\u003e","parameters":'
    + PARAMETERS
    + "}"
)


def say(role: str, content: str = "", **fields: Any) -> ChatMessage:
    return ChatMessage(role=role, content=content, **fields)


def chat(template: str, *messages: ChatMessage, **fields: Any) -> str:
    return render_chat(ChatPrompt(messages=messages, template=template, **fields))


class TestMessages:
    def test_chatml_of_smollm2(self) -> None:
        text = chat(CHATML, say("user", "Hello"))
        assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"

    def test_neighbours_of_one_role_are_merged(self) -> None:
        template = "{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}"
        text = chat(template, say("user", "a"), say("user", "b"), say("assistant", "c"))
        assert text == "[user:a\n\nb][assistant:c]"

    def test_tool_results_stay_alone(self) -> None:
        template = "{{ range .Messages }}[{{ .ToolName }}:{{ .Content }}]{{ end }}"
        text = chat(template, say("tool", "1", tool_name="f"), say("tool", "2", tool_name="g"))
        assert text == "[f:1][g:2]"

    def test_tool_calls_of_a_merged_message_are_kept(self) -> None:
        template = (
            "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}{{ end }}"
        )
        call = ToolCall(name="f", arguments={})
        assert chat(template, say("assistant", "x"), say("assistant", tool_calls=(call,))) == "f"

    def test_roles_are_in_lower_case(self) -> None:
        assert chat("{{ range .Messages }}{{ .Role }}{{ end }}", say("USER", "a")) == "user"

    def test_system_holds_all_system_messages(self) -> None:
        messages = [say("system", "a"), say("user", "u"), say("system", "b")]
        assert chat("{{ .System }}{{ if .Messages }}{{ end }}", *messages) == "a\n\nb"

    def test_unknown_field_of_a_message_is_an_error(self) -> None:
        with pytest.raises(TemplateRunError, match="Nope"):
            chat("{{ range .Messages }}{{ .Nope }}{{ end }}", say("user", "a"))

    def test_hundred_messages_take_little_time(self) -> None:
        messages = [say("user" if i % 2 else "assistant", "word " * 50) for i in range(100)]
        chat(CHATML, *messages)
        with takes_at_most(0.01):
            chat(CHATML, *messages)


class TestThinking:
    TEMPLATE = "{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}{{ if .Messages }}{{ end }}"

    @pytest.mark.parametrize(
        ("think", "text"),
        [
            (None, "false  false"),
            (True, "true medium true"),
            (False, "false  true"),
            ("high", "true high true"),
        ],
    )
    def test_is_told_to_the_template(self, think: bool | str | None, text: str) -> None:
        assert chat(self.TEMPLATE, say("user", "a"), think=think) == text

    def test_tags_stand_around_the_thinking_in_the_loop_over_messages(self) -> None:
        template = (
            "{{ range .Messages }}{{ if .Thinking }}\n<think>\n{{ .Thinking }}\n</think>\n{{ end }}"
            "{{ .Content }}{{ end }}"
        )
        assert thinking_tags(template) == ("<think>", "</think>")

    @pytest.mark.parametrize(
        "template",
        [
            CHATML,
            "<a>{{ .Thinking }}</a>",
            "{{ range .Messages }}<a>{{ .Thinking }}{{ end }}",
            "{{ range .Messages }}{{ range .ToolCalls }}<a>{{ .Thinking }}</a>{{ end }}{{ end }}",
        ],
    )
    def test_no_tags_without_both_in_that_loop(self, template: str) -> None:
        assert thinking_tags(template) is None


class TestTurns:
    def test_last_turn_ends_where_the_answer_begins(self) -> None:
        text = chat(LEGACY, say("system", "S"), say("user", "A"))
        assert text == "<sys>S<user>A<bot>"

    def test_finished_turns_are_rendered_whole(self) -> None:
        messages = [say("user", "A"), say("assistant", "B"), say("user", "C")]
        assert chat(LEGACY, *messages) == "<user>A<bot>B</s><user>C<bot>"

    def test_begun_answer_is_continued(self) -> None:
        assert chat(LEGACY, say("user", "A"), say("assistant", "B")) == "<user>A<bot>B"

    def test_later_system_message_ends_a_turn(self) -> None:
        messages = [say("user", "A"), say("system", "S"), say("user", "B")]
        assert chat(LEGACY, *messages) == "<user>A<bot></s><sys>S<user>B<bot>"

    def test_tool_messages_are_ignored(self) -> None:
        assert chat(LEGACY, say("user", "A"), say("tool", "T")) == "<user>A<bot>"

    def test_answer_is_appended_to_a_template_without_one(self) -> None:
        messages = [say("user", "A"), say("assistant", "B"), say("user", "C")]
        assert chat("[{{ .Prompt }}]", *messages) == "[A]B[C]"

    def test_no_template_is_the_bare_prompt(self) -> None:
        assert chat("", say("user", "A")) == "A"

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            ("{{ if .Prompt }}{{ .Prompt }}:{{ .Response }}!{{ end }}?", "A:"),
            ("{{ if .Response }}x{{ end }}{{ .Prompt }}{{ .Response }}!", "A"),
            ("{{ with .Prompt }}{{ . }}{{ $.Response }}!{{ end }}?", "A"),
            ("{{ if .No }}{{ .Response }}{{ else }}!{{ end }}?", ""),
            ("{{ if .No }}!{{ else }}{{ .Prompt }}{{ .Response }}?{{ end }}?", "A"),
            ('{{ .Prompt }}{{ printf "%s" .Response }}?', "A"),
            ('{{ .Prompt }}{{ (print "" .Response) }}?', "A"),
        ],
    )
    def test_cut_stands_after_the_first_action_with_the_answer(
        self, template: str, text: str
    ) -> None:
        assert chat(template, say("user", "A")) == text

    def test_last_turn_knows_functions_and_definitions(self) -> None:
        template = '{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .Prompt }}{{ json .Prompt }}'
        assert chat(template + "{{ .Response }}", say("user", "A")) == '<A>"A"'


class TestTools:
    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("{{ .Tools }}", '[{"type":"function","function":' + FUNCTION + "}]"),
            ("{{ json .Tools }}", '[{"type":"function","function":' + FUNCTION + "}]"),
            (
                "{{ range .Tools }}{{ . }}{{ end }}",
                '{"type":"function","function":' + FUNCTION + "}",
            ),
            ("{{ range .Tools }}{{ .Function }}{{ end }}", FUNCTION),
            ("{{ range .Tools }}{{ .Function.Parameters }}{{ end }}", PARAMETERS),
            ("{{ range .Tools }}{{ .Function.Parameters.Required }}{{ end }}", "[city]"),
            ("{{ (index .Tools 0).Function.Description }}", "Weather <now>"),
        ],
    )
    def test_print_as_json(self, source: str, text: str) -> None:
        source += "{{ if .Messages }}{{ end }}"
        assert chat(source, say("user", "a"), tools=(WEATHER,)) == text

    def test_properties_are_visited_in_order_of_name(self) -> None:
        source = (
            "{{ range .Tools }}{{ range $name, $p := .Function.Parameters.Properties }}"
            "{{ $name }}={{ $p.Type }}/{{ toTypeScriptType $p }};{{ end }}{{ end }}"
            "{{ if .Messages }}{{ end }}"
        )
        text = chat(source, say("user", "a"), tools=(WEATHER,))
        assert text == (
            "city=string/string;place=object/Record<string, any>;zone=[string null]/string | null;"
        )

    def test_no_tools_print_as_null_and_are_false(self) -> None:
        source = "{{ .Tools }}{{ if .Tools }}x{{ end }}{{ if .Messages }}{{ end }}"
        assert chat(source, say("user", "a")) == "null"

    def test_arguments_print_as_sorted_json(self) -> None:
        source = (
            "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}"
            "{{ .Function.Arguments.n }}{{ end }}{{ end }}"
        )
        call = ToolCall(name="f", arguments={"n": 1_000_000, "a": [1.5, None, {"é": "<"}], "m": {}})
        text = chat(source, say("assistant", tool_calls=(call,)))
        assert text == '{"a":[1.5,null,{"é":"\\u003c"}],"m":{},"n":1000000}1e+06'

    def test_large_whole_numbers_stay_exact(self) -> None:
        source = (
            "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
        )
        call = ToolCall(name="f", arguments={"id": 9007199254740993})
        assert chat(source, say("assistant", tool_calls=(call,))) == '{"id":9007199254740993}'

    def test_no_arguments_print_as_an_empty_object(self) -> None:
        source = (
            "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
        )
        call = ToolCall(name="f", arguments={})
        assert chat(source, say("assistant", tool_calls=(call,))) == "{}"

    @pytest.mark.parametrize(
        "tool",
        [
            {},
            {"type": 3, "function": "x"},
            {"function": {"parameters": {"properties": [1]}}},
            {"function": {"parameters": {"properties": {"a": {"anyOf": [{"type": "string"}, 3]}}}}},
        ],
    )
    def test_odd_shapes_do_no_harm(self, tool: dict[str, Any]) -> None:
        source = "{{ .Tools }}{{ range .Tools }}{{ .Function.Name }}{{ end }}{{ .Messages }}"
        assert chat(source, say("user", "a"), tools=(tool,)).startswith("[{")

    def test_endless_schema_is_refused(self) -> None:
        schema: dict[str, Any] = {"type": "object"}
        for _ in range(300):
            schema = {"type": "object", "properties": {"a": schema}}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        with pytest.raises(TemplateLimitError):
            chat("{{ .Tools }}{{ if .Messages }}{{ end }}", say("user", "a"), tools=(tool,))


class TestFillIn:
    def test_prompt_and_suffix_reach_the_template(self) -> None:
        assert render_fill(FILL, "a(", ")") == "<pre>a(<suf>)<mid>"

    def test_without_a_suffix_the_prompt_is_one_turn(self) -> None:
        assert render_fill(FILL, "a", "") == "a"


class TestDates:
    def test_today_and_yesterday(self) -> None:
        source = "{{ currentDate }} {{ yesterdayDate }} {{ currentDate | printf }}{{ .Prompt }}"
        before = datetime.datetime.now().astimezone().date()
        told = chat(source, say("user", ""))
        # The day may have ended meanwhile.
        days = (before, datetime.datetime.now().astimezone().date())
        assert told in {
            f"{one} {two - datetime.timedelta(days=1)} {three}"
            for one, two, three in itertools.product(days, repeat=3)
        }


class TestImages:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("look", "[img-3][img-4]look"),
            ("a [img] b [img] c", "a [img-3] b [img-4] c"),
            ("a [img] b", "[img-4]a [img-3] b"),
            ("[img][img][img]", "[img-3][img-4][img]"),
        ],
    )
    def test_tags_take_the_place_of_marks_or_stand_in_front(self, content: str, text: str) -> None:
        assert place_image_tags(content, ["[img-3]", "[img-4]"]) == text

    def test_numbers_run_through_the_conversation(self) -> None:
        template = "{{ range .Messages }}{{ .Content }}{{ len .Images }};{{ end }}"
        messages = [say("user", "a", images=(b"", b"")), say("assistant", "b")]
        text = chat(template, *messages, say("user", "c", images=(b"",)))
        assert text == "[img-0][img-1]a2;b0;[img-2]c1;"


class TestVariables:
    @pytest.mark.parametrize(
        ("template", "names"),
        [
            (LEGACY, {"system", "prompt", "response"}),
            (FILL, {"suffix", "prompt"}),
            (
                "{{ range $i, $m := $.Messages }}{{ if (eq $m.Role .X) }}{{ end }}{{ end }}",
                {"messages", "role", "x"},
            ),
            ('{{ define "a" }}{{ .Tools }}{{ end }}{{ template "a" .Y }}', {"tools", "y"}),
            ("{{ (index .A 0).Suffix }}", set()),
            ("", {"prompt"}),
        ],
    )
    def test_are_the_fields_in_lower_case(self, template: str, names: set[str]) -> None:
        assert variables(template) == names

    def test_of_no_template_is_an_error(self) -> None:
        with pytest.raises(TemplateParseError):
            variables("{{ .Prompt")
