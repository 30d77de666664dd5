"""Output formats found from templates. The templates were written for these tests."""

import pytest

from inference.output import known
from inference.output.formats import find_format
from inference.output.go_tags import call_tag
from inference.output.syntax import CallSyntax, JsonCall, NamedCall, PythonCall, TaggedCall
from tests.inference.output.answers import Answer, parse_all_ways
from tests.timing import takes_at_most

JINJA = """{%% for m in messages %%}<|turn|>{{ m.role }}
{%%- if m.reasoning_content is defined %%}
<%(tag)s>
{{ m.reasoning_content }}
</%(tag)s>
{%% endif %%}
{{ m.content }}{%% if m.tool_calls %%}%(calls)s{%% endif %%}<|over|>
{%% endfor %%}<|turn|>assistant
"""
EACH = "{% for c in m.tool_calls %}"
END = "{% endfor %}"
COMMA = "{{ ', ' if not loop.last }}"
NAME = "{{ c.function.name }}"
JSON = "{{ c.function.arguments | tojson }}"
ITEMS = "{% for k, v in c.function.arguments | items %}"
OBJECT = f'{{"name": "{NAME}", "arguments": {JSON}}}'


def jinja(calls: str, tag: str = "think") -> str:
    return JINJA % {"calls": calls, "tag": tag}


def of_jinja(template: str) -> CallSyntax:
    return find_format(template, is_jinja=True).calls


def of_go(template: str) -> CallSyntax:
    return find_format(template, is_jinja=False).calls


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (f"{EACH}\n<tool_call>\n{OBJECT}\n</tool_call>{END}", known.HERMES),
        (f"{EACH}<tool_call>{NAME}\n{ITEMS}<arg_key>{{{{k}}}}</arg_key>\n"
         f"<arg_value>{{{{v}}}}</arg_value>\n{END}</tool_call>{END}", known.HERMES),
        (f"{EACH}<tool_call>\n<function={NAME}>\n{ITEMS}<parameter={{{{k}}}}>\n{{{{v}}}}\n"
         f"</parameter>\n{END}</function>\n</tool_call>{END}", known.HERMES),
        (f"{EACH}{OBJECT}{END}", known.BARE),
        (f"[{EACH}{OBJECT}{COMMA}{END}]", known.BARE),
        (f"{{% if m.tool_calls | length > 1 %}}{{{{ raise_exception('one') }}}}{{% endif %}}"
         f"{EACH}{OBJECT}{END}", known.BARE),
        (f"[TOOL_CALLS] [{EACH}{OBJECT}{COMMA}{END}]", known.MISTRAL),
        (f"{EACH}[TOOL_CALLS]{NAME}[ARGS]{JSON}{END}", known.MISTRAL),
        (f"<|tool_call|>[{EACH}{OBJECT}{COMMA}{END}]", known.GRANITE),
        (f"{EACH}<|tool_call|>{OBJECT}{END}", known.GRANITE),
        (f"Action: ```json\n[{EACH}{OBJECT}{COMMA}{END}]```", known.COMMAND),
        (f"<｜tool▁calls▁begin｜>{EACH}<｜tool▁call▁begin｜>{NAME}<｜tool▁sep｜>{JSON}"
         f"<｜tool▁call▁end｜>{END}<｜tool▁calls▁end｜>", known.DEEPSEEK),
        (f"<|tool_calls_section_begin|>{EACH}<|tool_call_begin|>functions.{NAME}:{{{{loop.index0}}}}"
         f"<|tool_call_argument_begin|>{JSON}<|tool_call_end|>{END}<|tool_calls_section_end|>",
         known.KIMI),
        (f"<|START_ACTION|>[{EACH}{OBJECT}{COMMA}{END}]<|END_ACTION|>", known.COMMAND_7B),
        (f"<function_calls>{EACH}{NAME}({ITEMS}{{{{k}}}}=\"{{{{v}}}}\"{COMMA}{END})\n{END}"
         "</function_calls>", known.OLMO),
        (f"{EACH}<|tool_call>call:{NAME}{{{ITEMS}{{{{k}}}}:<|\"|>{{{{v}}}}<|\"|>{COMMA}{END}}}"
         f"<tool_call|>{END}", known.GEMMA),
        (f"{EACH}<seed:tool_call>\n<function={NAME}>\n{ITEMS}<parameter={{{{k}}}}>{{{{v}}}}"
         f"</parameter>\n{END}</function>\n</seed:tool_call>{END}", known.SEED),
        (f"<minimax:tool_call>\n{EACH}<invoke name=\"{NAME}\">\n{ITEMS}"
         f"<parameter name=\"{{{{k}}}}\">{{{{v}}}}</parameter>\n{END}</invoke>\n{END}"
         "</minimax:tool_call>", known.MINIMAX),
        (f"<|tool_calls|>{EACH}<|tool_call:begin|>{{{{ c.id }}}}<|tool_call:name|>{NAME}"
         f"<|tool_call:args|>{JSON}<|tool_call:end|>{END}<|calls|>", known.SOLAR),
        (f"<｜DSML｜tool_calls>\n{EACH}<｜DSML｜invoke name=\"{NAME}\">\n{ITEMS}"
         "<｜DSML｜parameter name=\"{{ k }}\" string=\"{{ 'true' if v is string else 'false' }}\">"
         f"{{{{ v }}}}</｜DSML｜parameter>\n{END}</｜DSML｜invoke>\n{END}</｜DSML｜tool_calls>",
         known.DSML),
        ("List of tools: {{ tools | tojson }}", known.LFM),
        ("<|tool_list_start|>{{ tools | tojson }}<|tool_list_end|>", known.LFM),
        (f"{{# Answer with <tool_call> #}}{EACH}{OBJECT}{END}", known.HERMES),
        ("{% if m.tool_calls %}{{ raise_exception('none') }}{% endif %}{# <TOOLCALL> #}",
         known.TOOLCALL),
        ("{# <|START_ACTION|> is what the model says #}", known.COMMAND_7B),
        ("", known.BARE),
    ],
)  # fmt: skip
def test_known_formats_are_recognized_in_jinja(calls: str, expected: CallSyntax) -> None:
    assert of_jinja(jinja(calls)) is expected


@pytest.mark.parametrize(
    ("calls", "shape", "answer"),
    [
        (f"<|pre|>[{EACH}{{\"{NAME}\": {JSON}}}{COMMA}{END}]<|suf|>", JsonCall,
         '<|pre|>[{"get_weather": {"city": "Paris"}}, {"say_hello": {}}]<|suf|>'),
        (f"<|begin|>{EACH}<|one|>{NAME}<|sep|>{JSON}<|done|>{END}<|fin|>", NamedCall,
         '<|begin|><|one|>get_weather<|sep|>{"city": "Paris"}<|done|>'
         "<|one|>say_hello<|sep|>{}<|done|><|fin|>"),
        (f"<|all|>{EACH}<|one|>{{{{ c.id }}}}<|name|>{NAME}<|sep|>{JSON}<|done|>{END}<|fin|>",
         NamedCall,
         '<|all|><|one|>f8Ew<|name|>get_weather<|sep|>{"city": "Paris"}<|done|>'
         "<|one|>9xYz<|name|>say_hello<|sep|>{}<|done|><|fin|>"),
        (f"{EACH}<|one|>{NAME}<|id|>{{{{ c.id }}}}<|sep|>{JSON}<|done|>{END}", NamedCall,
         '<|one|>get_weather<|id|>f8Ew<|sep|>{"city": "Paris"}<|done|>'
         "<|one|>say_hello<|id|>9xYz<|sep|>{}<|done|>"),
        (f"<all>{EACH}\n<do act=\"{NAME}\">{ITEMS}\n<with key=\"{{{{k}}}}\">{{{{v}}}}</with>"
         f"{END}\n</do>{END}\n</all>", TaggedCall,
         '<all>\n<do act="get_weather">\n<with key="city">Paris</with>\n</do>\n'
         '<do act="say_hello">\n</do>\n</all>'),
        (f"<|py|>[{EACH}{NAME}({ITEMS}{{{{k}}}}=\"{{{{v}}}}\"{COMMA}{END}){COMMA}{END}]<|/py|>",
         PythonCall, '<|py|>[get_weather(city="Paris"), say_hello()]<|/py|>'),
        (f"{EACH}<tool_call>{NAME} {ITEMS}<k>{{{{k}}}}</k><v>{{{{v}}}}</v>{END}</tool_call>{END}",
         TaggedCall,
         "<tool_call>get_weather <k>city</k><v>Paris</v></tool_call>"
         "<tool_call>say_hello </tool_call>"),
        (f"@@{EACH}{OBJECT}{END}", JsonCall,
         '@@{"name": "get_weather", "arguments": {"city": "Paris"}}{"name": "say_hello"}'),
    ],
)  # fmt: skip
def test_other_formats_are_learnt_from_the_template(
    calls: str, shape: type[object], answer: str
) -> None:
    form = find_format(jinja(calls), is_jinja=True)
    assert isinstance(form.calls.shapes[0], shape)
    found = parse_all_ways(form, f"So: {answer}")
    assert found == Answer("So: ", "", (("get_weather", {"city": "Paris"}), ("say_hello", {})))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("<tool_call>\n{{ range .ToolCalls }}%s{{ end }}\n</tool_call>", known.HERMES),
        ("{{ range .ToolCalls }}<tool_call>%s</tool_call>{{ end }}", known.HERMES),
        ("[TOOL_CALLS] [{{ range .ToolCalls }}%s{{ end }}]", known.MISTRAL),
        ("Action: ```json\n[{{ range .ToolCalls }}%s{{ end }}]```", known.COMMAND),
        (" functools[{{ range .ToolCalls }}%s{{ end }}]", known.FUNCTOOLS),
        ("{{ range .ToolCalls }}%s{{ end }}", known.BARE),
        ("<toolcall>{ {{ .Undefined.Field }}{{ range .ToolCalls }}{{ end }}", known.TOOLCALL),
        ("", known.BARE),
    ],
)
def test_known_formats_are_recognized_in_go(calls: str, expected: CallSyntax) -> None:
    one = '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
    template = "{{ range .Messages }}<|{{ .Role }}|>{{ if .ToolCalls }}%s{{ else }}{{ .Content }}"
    template = template % calls.replace("%s", one) + "{{ end }}<|over|>\n{{ end }}"
    assert of_go(template) is expected


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        ("\n @call {{ .X }}", "@call"),
        ("{{ if .X }}@one{{ else }}@two{{ end }}", "@one"),
        ("{{ range .ToolCalls }}{{ .ID }}@late{{ end }}@later", ""),
        ("{{ if .X }}{{ .X }}{{ end }}@late", ""),
        ('{ "name": {{ .X }}', ""),
        ("", ""),
    ],
)
def test_the_tag_is_the_text_before_the_first_action(body: str, tag: str) -> None:
    template = "{{ with .Y }}{{ if and .Z .ToolCalls }}" + body + "{{ end }}{{ end }}"
    assert call_tag(template) == tag


@pytest.mark.parametrize("template", ["{{ if", "{{ if .Tools }}@call{{ end }}", "text"])
def test_without_a_condition_on_calls_there_is_no_tag(template: str) -> None:
    assert call_tag(template) == ""


def test_a_tag_nobody_knows_is_taken_from_a_go_template() -> None:
    template = (
        "{{ range .Messages }}{{ if .ToolCalls }} @call [{{ range .ToolCalls }}{{ .ID }}"
        "{{ end }}{{ else }}{{ .Content }}{{ end }}{{ end }}"
    )
    assert of_go(template) == CallSyntax((JsonCall(),), ("@call",))


@pytest.mark.parametrize("tag", ["think", "reason", "seed:think"])
def test_thinking_tags_are_found_in_jinja(tag: str) -> None:
    form = find_format(jinja("", tag), is_jinja=True)
    assert form.thinking == (f"<{tag}>", f"</{tag}>")
    assert {f"<{tag}>", f"</{tag}>"} <= form.shown_tokens


def test_thinking_tags_are_found_where_a_template_only_drops_thinking() -> None:
    template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    assert find_format(template, is_jinja=True).thinking == known.THINK


def test_a_tag_that_begins_like_another_one_is_found_whole() -> None:
    template = (
        "{% for m in messages %}<|START_{% if m.tool_calls %}ACTION|>["
        f"{EACH}{OBJECT}{COMMA}{END}]<|END_ACTION|>{{% else %}}TEXT|>{{{{ m.content }}}}"
        "{% endif %}<|over|>{% endfor %}"
    )
    assert of_jinja(template) is known.COMMAND_7B


def test_what_ends_every_turn_is_not_part_of_a_call() -> None:
    form = find_format(jinja(f"@@[{EACH}{OBJECT}{COMMA}{END}]<|at|>"), is_jinja=True)
    assert form.shown_tokens == {"<|at|>", "<think>", "</think>"}


def test_thinking_tags_are_found_in_go() -> None:
    template = (
        "{{ range .Messages }}{{ if .Thinking }}<reason>{{ .Thinking }}</reason>{{ end }}"
        "{{ .Content }}{{ end }}"
    )
    assert find_format(template, is_jinja=False).thinking == ("<reason>", "</reason>")


@pytest.mark.parametrize("is_jinja", [True, False])
@pytest.mark.parametrize(
    "template",
    ["", "{{", "{% for %}", "{{ nobody.knows() }}", "{{ .Prompt }}", "plain text", "{{ 1/0 }}"],
)
def test_any_other_template_gives_the_generic_format(template: str, is_jinja: bool) -> None:
    assert find_format(template, is_jinja=is_jinja) == known.GENERIC


@pytest.mark.parametrize("is_jinja", [True, False])
def test_channels_are_recognized_by_their_tokens(is_jinja: bool) -> None:
    template = "<|start|>{{ .Prompt }}<|message|><|channel|>"
    form = find_format(template, is_jinja=is_jinja)
    assert form.is_channelled
    assert {"<|channel|>", "<|call|>", "<|end|>"} <= form.shown_tokens


@pytest.mark.parametrize(
    ("parser", "syntax"),
    [
        ("qwen3-coder", known.HERMES),
        ("deepseek3", known.DEEPSEEK),
        ("olmo3", known.OLMO),
        ("cogito", known.DEEPSEEK),
        ("granite", known.GRANITE),
        ("ministral", known.MISTRAL),
        ("Gemma4", known.GEMMA),
        ("functiongemma", known.FUNCTION_GEMMA),
    ],
)
def test_a_parsers_name_wins(parser: str, syntax: CallSyntax) -> None:
    form = find_format(jinja("@@" + OBJECT), is_jinja=True, parser=parser)
    assert form.calls is syntax


@pytest.mark.parametrize("parser", ["", "nobody"])
def test_an_unknown_parsers_name_leaves_it_to_the_template(parser: str) -> None:
    template = jinja(f"{EACH}[TOOL_CALLS]{NAME}[ARGS]{JSON}{END}")
    assert find_format(template, is_jinja=True, parser=parser).calls is known.MISTRAL


def test_the_tokens_that_frame_calls_are_shown() -> None:
    form = find_format("", is_jinja=False, parser="deepseek3")
    assert {"<｜tool▁sep｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁end｜>"} <= form.shown_tokens
    assert "```json" not in form.shown_tokens


def test_a_format_is_looked_for_once() -> None:
    template = jinja("<tool_call>")
    assert find_format(template, is_jinja=True) is find_format(template, is_jinja=True)


def test_a_hostile_template_gives_up_in_time() -> None:
    loop = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
    with takes_at_most(1.0):
        assert find_format(loop, is_jinja=True) == known.GENERIC
