"""Jinja templates: as Hugging Face renders them, and what hostile ones may not do."""

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.messages import ChatMessage, ToolCall
from inference.prompting.errors import (
    TemplateError,
    TemplateLimitError,
    TemplateParseError,
    TemplateRunError,
)
from inference.prompting.jinja import render_chat
from inference.prompting.sandbox import meter, render
from tests.timing import takes_at_most

CHATML = """{%- if tools %}
<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}"""


def say(role: str, content: str = "", **fields: Any) -> ChatMessage:
    return ChatMessage(role=role, content=content, **fields)


class TestChat:
    def test_chatml(self) -> None:
        text = render_chat(CHATML, [say("user", "Hello")])
        assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"

    def test_tools_come_as_they_were_sent(self) -> None:
        tool = {"type": "function", "function": {"name": "f", "x": "<é>"}}
        text = render_chat(CHATML, [], tools=[tool])
        assert '<tools>{"type": "function", "function": {"name": "f", "x": "<é>"}}</tools>' in text

    def test_no_tools_are_none(self) -> None:
        assert render_chat("{{ tools is none }}", []) == "True"

    def test_special_tokens_are_known(self) -> None:
        text = render_chat("{{ bos_token }}x{{ eos_token }}", [], bos_token="<s>", eos_token="</s>")
        assert text == "<s>x</s>"

    @pytest.mark.parametrize(
        ("think", "text"),
        [(None, "unset|unset"), (True, "True|unset"), (False, "False|unset"), ("low", "True|low")],
    )
    def test_thinking_is_told_to_the_template(self, think: bool | str | None, text: str) -> None:
        template = "{{ enable_thinking|default('unset') }}|{{ reasoning_effort|default('unset') }}"
        assert render_chat(template, [], think=think) == text

    def test_thinking_has_another_name_in_some_templates(self) -> None:
        assert render_chat("{{ thinking|default('unset') }}", [], think=True) == "True"

    def test_thinking_of_a_message_is_its_reasoning(self) -> None:
        template = "{{ messages[0].reasoning_content }}"
        assert render_chat(template, [say("assistant", "a", thinking="hm")]) == "hm"

    def test_calls_and_results_have_the_openai_shape(self) -> None:
        template = (
            "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.id }} {{ c.type }} "
            "{{ c.function.name }}({{ c.function.arguments.a }}){% endfor %}"
            "{{ m.name }}{{ m.tool_call_id }}{% endfor %}"
        )
        call = ToolCall(name="f", arguments={"a": 1}, id="call_9")
        result = say("tool", "1", tool_name="f", tool_call_id="call_9")
        text = render_chat(template, [say("assistant", tool_calls=(call,)), result])
        assert text == "call_9 function f(1)fcall_9"

    def test_arguments_become_text_for_a_template_that_needs_text(self) -> None:
        template = "{{ 'x' + messages[0].tool_calls[0].function.arguments }}"
        call = ToolCall(name="f", arguments={"é": 1})
        assert render_chat(template, [say("assistant", tool_calls=(call,))]) == 'x{"é": 1}'

    def test_system_text_moves_into_the_question_if_the_template_refuses_it(self) -> None:
        template = (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ m.role }}:{{ m.content }}{% endfor %}"
        )
        assert render_chat(template, [say("system", "S"), say("user", "U")]) == "user:S\n\nU"

    def test_first_failure_is_the_one_reported(self) -> None:
        template = "{{ raise_exception('failed on ' ~ messages|length) }}"
        with pytest.raises(TemplateRunError, match="failed on 2"):
            render_chat(template, [say("system", "S"), say("user", "U")])

    def test_thoughts_are_left_out_if_the_template_refuses_them(self) -> None:
        template = (
            "{% for m in messages %}{% if m.thinking and m.content %}{{ raise_exception('both') }}"
            "{% endif %}{{ m.content }}{% endfor %}"
        )
        messages = [say("assistant", "a", thinking="hm"), say("user", "b")]
        assert render_chat(template, messages) == "ab"

    def test_neighbours_of_one_role_become_one_if_the_template_insists(self) -> None:
        template = (
            "{% for m in messages %}{% if m.role != ['user', 'assistant'][loop.index0 % 2] %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.content }}]{% endfor %}"
        )
        messages = [say("system", "s"), say("user", "a"), say("user", "b"), say("assistant", "c")]
        assert render_chat(template, [*messages, say("user", "d")]) == "[s\n\na\n\nb][c][d]"

    def test_content_comes_in_parts_for_a_template_that_wants_parts(self) -> None:
        template = (
            "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}"
            "<{{ part.text }}>{% endif %}{% endfor %}{% endfor %}"
        )
        assert render_chat(template, [say("user", "a", images=(b"",))]) == "<[img-0]a>"

    def test_an_answer_that_has_begun_is_continued(self) -> None:
        text = render_chat(CHATML, [say("user", "Hi"), say("assistant", "Well, ")])
        assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell, "

    def test_who_has_begun_to_answer_has_thought(self) -> None:
        template = "{{ '<think></think>' if not enable_thinking else '<think>' }}"
        messages = [say("user", "Hi"), say("assistant", "Well")]
        assert render_chat(template, messages, think=True) == "<think></think>Well"

    def test_an_answer_with_calls_is_not_continued(self) -> None:
        call = ToolCall(name="f", arguments={})
        template = "{{ messages|length }}"
        messages = [say("user", "Hi"), say("assistant", "x", tool_calls=(call,))]
        assert render_chat(template, messages) == "2"

    def test_image_tags_are_placed(self) -> None:
        template = "{% for m in messages %}{{ m.content }};{% endfor %}"
        messages = [say("user", "a", images=(b"",)), say("user", "b [img]", images=(b"",))]
        assert render_chat(template, messages) == "[img-0]a;b [img-1];"

    def test_template_cannot_change_the_callers_tools(self) -> None:
        tools: list[dict[str, Any]] = [{"function": {"name": "f"}}]
        template = (
            "{% set _ = tools[0].function.update({'name': 'g'}) %}{{ tools[0].function.name }}"
        )
        assert render_chat(template, [], tools=tools) == "g"
        assert tools == [{"function": {"name": "f"}}]

    def test_thousand_messages_are_no_bomb(self) -> None:
        messages = [say("user" if i % 2 else "assistant", "wörd " * 200) for i in range(1000)]
        template = (
            "{% set ns = namespace(all=[]) %}{% for m in messages %}{% set ns.all = ns.all + [m] %}"
            "{% if messages|length - loop.index0 > 3 and 'x' in m.content %}x{% endif %}"
            "{% endfor %}"
        )
        assert render_chat(template, messages) == ""


class TestLanguage:
    @pytest.mark.parametrize(
        ("source", "text"),
        [
            (
                "{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "012",
            ),
            (
                "{% for i in [1,2,3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
                "13",
            ),
            ("{% for i in x if i > 1 %}{{ loop.index }}/{{ loop.length }}{% endfor %}", "1/22/2"),
            ("{% for i in x %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "1,2,3"),
            ("{% for i in [] %}a{% else %}b{% endfor %}", "b"),
            ("{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"),
            (
                "{% for n in [[1,[2]]] recursive %}{{ loop(n) if n is not number else n }}"
                "{% endfor %}",
                "12",
            ),
            ("  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
            ("{% generation %}a{{ 1 }}{% endgeneration %}", "a1"),
            ("{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}", "1213"),
            ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}", "<x>"),
            (
                "{% set n = namespace(a=1) %}{% for i in x %}{% set n.a = n.a + i %}"
                "{% endfor %}{{ n.a }}",
                "7",
            ),
            ("{% set t %}a{{ 1 }}{% endset %}{{ t ~ 2 ~ none }}", "a12None"),
            ("{% filter upper %}abc{% endfilter %}", "ABC"),
            ("{{ x[::-1] }} {{ x[1:] }} {{ 'abc'[:-1] }} {{ x[-1] }}", "[3, 2, 1] [2, 3] ab 3"),
            (
                "{{ 'a' in 'cat' }} {{ 4 in x }} {{ x == [1, 2, 3] }} {{ 1 < 2 }}",
                "True False True True",
            ),
            ("{{ m|tojson }} {{ m|tojson(indent=1) }}", '{"a": 1, "b": 2} {\n "a": 1,\n "b": 2\n}'),
            ("{{ '<é>'|tojson }}", '"<é>"'),
            (
                "{{ x|map('string')|join('-') }} {{ x|join }} {{ [m]|join(',', 'a') }}",
                "1-2-3 123 1",
            ),
            (
                "{{ [m]|selectattr('a', 'equalto', 1)|list|length }} {{ x|sum }} {{ x|max }}",
                "1 6 3",
            ),
            (
                "{{ 'a\nb'|indent(2) }} {{ 'aba'|replace('a', 'x') }} {{ '%s-%d'|format('a', 1) }}",
                "a\n  b xbx a-1",
            ),
            (
                "{{ '%s' % 'a' }} {{ '{} {x}'.format(1, x=2) }} {{ ','.join(['a', 'b']) }}",
                "a 1 2 a,b",
            ),
            ("{{ ' a '.strip() }}{{ 'a,b'.split(',')[1] }}{{ 'ab'.startswith('a') }}", "abTrue"),
            (
                "{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 'ab' * 2 }} {{ [1] + [2] }}",
                "1024 3 3 abab [1, 2]",
            ),
            (
                "{{ missing }}|{{ missing is defined }}|{{ missing|default('d') }}|{{ none }}",
                "|False|d|None",
            ),
            ("{% set l = [] %}{% set _ = l.append(1) %}{{ l }}", "[1]"),
            ("{{ dict(a=1).a }} {{ {'a': x}.a[0] }} {{ (1, 2)[1] }}", "1 1 2"),
            ("{{ '<b>' }} {{ '<b>'|escape }} {{ 3.5|round|int }}", "<b> &lt;b&gt; 4"),
        ],
    )
    def test_renders_as_jinja_does(self, source: str, text: str) -> None:
        assert render(source, {"x": [1, 2, 3], "m": {"a": 1, "b": 2}}) == text

    def test_strftime_now_is_the_hosts_date(self) -> None:
        before = datetime.datetime.now().astimezone().strftime("%d %B %Y")
        told = render("{{ strftime_now('%d %B %Y') }}", {})
        assert told in {before, datetime.datetime.now().astimezone().strftime("%d %B %Y")}

    def test_raise_exception_gives_its_words(self) -> None:
        with pytest.raises(TemplateRunError, match="roles must alternate"):
            render("{{ raise_exception('roles must alternate') }}", {})

    @pytest.mark.parametrize(
        "source", ["{{ x", "{% if %}", "{% nosuch %}", "{{ x|nosuch }}", "{{ 1 +"]
    )
    def test_bad_source_is_a_parse_error(self, source: str) -> None:
        with pytest.raises(TemplateParseError):
            render(source, {})

    @pytest.mark.parametrize("source", ["{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{{ x.y.z }}", "{{ x() }}"])
    def test_failure_is_a_run_error(self, source: str) -> None:
        with pytest.raises(TemplateRunError):
            render(source, {})


FORBIDDEN = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'].mro() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['render'] }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{{ ''|attr('__class__') }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__.os }}",
    "{{ joiner() }}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as x %}",
    "{{ (5).to_bytes(1000000000, 'big') }}",
    "{{ 'a'.encode('utf-8') }}",
    "{{ 'a'.translate({97: 'b'}) }}",
    "{{ {}.fromkeys([1]) }}",
    "{{ [1]|batch(1000000000, 0)|list }}",
    "{{ 'a'|center(2000000000) }}",
    "{{ 5|round(-1000000000) }}",
    "{{ 5|round(1000000000, 'ceil') }}",
    "{{ [[1]]|sum(start=[]) }}",
    "{{ [1]|tojson(indent=1000000000) }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ " + "9" * 10_000 + " }}",
    "{% for i in [1] %}" * 50 + "{% endfor %}" * 50,
]
BOMBS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in x|map('string') %}{{ b }}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ ('a' * 10**6) * 10**6 }}",
    "{{ ([0] * 10**6) * 1000 }}",
    "{{ 9 ** 9999 ** 2 }}",
    "{{ 2 ** 100000 }}",
    "{{ '%1000000000d' % 3 }}",
    "{{ '%*d' % (1000000000, 3) }}",
    "{{ '%1000000000s'|format('a') }}",
    "{{ '{:>1000000000}'.format('a') }}",
    "{{ '{:{w}}'.format('a', w=1000000000) }}",
    "{{ 'a'.center(2000000000) }}",
    "{{ 'a'.ljust(2000000000) }}",
    "{{ 'a'.zfill(2000000000) }}",
    r"{{ '\t\t'.expandtabs(1000000000) }}",
    r"{{ 'a\nb'|indent(2000000000) }}",
    r"{{ ('a\n' * 100000)|indent(9000) }}",
    "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set n = namespace(s='aa') %}{% for i in range(40) %}"
    "{% set n.s = n.s|replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(s=[1]) %}{% for i in range(40) %}"
    "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "{% set n = namespace(s=(1,)) %}{% for i in range(40) %}"
    "{% set n.s = (n.s, n.s) %}{% endfor %}{{ {n.s: 1} }}",
    "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set n.a = [n.a, n.a] %}"
    "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "{% macro m() %}{{ m(varargs, varargs) }}{% endmacro %}{{ m(1) }}",
    "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}{% endfor %}",
    "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.append(l) %}{% endfor %}{{ l }}",
    "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set k = [] %}"
    "{% set _ = k.append(n.l) %}"
    "{% set _ = k.append(n.l) %}{% set n.l = k %}{% endfor %}{{ n.l == n.l[:] }}",
    "{% set d = {} %}{% for i in range(60) %}"
    "{% set _ = d.update({i: [d.copy(), d.copy()]}) %}{% endfor %}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "{% macro d(s) %}" + "{{ s }}" * 100 + "{% endmacro %}{{ d(d(d(d(d('aaaaaaaaaa'))))) }}",
    "{% set x %}{% for i in range(90000) %}" + "text" * 1000 + "{% endfor %}{% endset %}",
    "{% for i in range(90000) %}" + "text" * 1000 + "{% endfor %}",
    "{% filter upper %}{% for i in range(90000) %}" + "text" * 1000 + "{% endfor %}{% endfilter %}",
    "{% macro d() %}{{ d() }}{{ d() }}{% endmacro %}{{ d() }}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{% for a in [1] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 18
    + "aa"
    + "{% endcall %}" * 18,
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "{{ ('a' * 100000).join(['b'] * 100000) }}",
    "{{ (['b'] * 100000)|join('a' * 100000) }}",
    "{{ range(99999)|map('string')|join('a' * 100000) }}",
    "{% set s = 'a' * 1000000 %}{% for i in range(90000) %}{{ 'aaaab' in s }}{% endfor %}",
    "{% set s = 'a' * 4000000 %}{% for i in range(90000) %}{% set x = s[1:] %}{% endfor %}",
    "{% set s = 'é' * 2000000 %}{% for i in range(90000) %}{% set x = s|upper %}{% endfor %}",
    "{% set s = 'a ' * 100000 %}{% for i in range(90000) %}{% set x = s.split(' ') %}{% endfor %}",
    "{% for i in range(1000) %}{% set x = range(99999)|list|sort %}{% endfor %}",
    "{% for i in range(1000) %}{{ range(99999)|map('string')|select|list|length }}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 10_000 + "1 }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{ x }}" * 20_000,
    "{{ [" + "1," * 100_000 + "] }}",
    "a" * 300_000,
]


class TestHostileTemplates:
    @pytest.mark.parametrize("source", FORBIDDEN, ids=lambda source: source[:50])
    def test_reaches_nothing_it_should_not(self, source: str) -> None:
        with pytest.raises((TemplateParseError, TemplateRunError)):
            render(source, {"messages": [{"role": "user"}]})

    @pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:60])
    def test_ends_soon_with_a_limit_error(
        self, source: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(meter, "_MAX_CPU_S", 3600.0)  # the steps alone are enough
        with takes_at_most(2), pytest.raises(TemplateLimitError):
            render(source, {"x": [1, 2, 3]})

    @pytest.mark.parametrize("call", ["sort", "unique|list", "groupby(0)|list", "max", "min"])
    def test_comparing_is_paid_for_by_item(self, call: str) -> None:
        with takes_at_most(0.1), pytest.raises(TemplateLimitError, match="too many steps"):
            render("{% set s = 'a' * 4000000 %}{{ s|" + call + " }}", {})

    def test_time_is_up_even_where_steps_are_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(meter, "_MAX_CPU_S", 0.0)
        with pytest.raises(TemplateLimitError, match="takes too long"):
            render("{% for i in range(1000) %}x{% endfor %}", {})


PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "{%-",
        "-%}",
        "{#",
        "#}",
        "if x",
        "endif",
        "for i in x",
        "endfor",
        "set y = x",
        "macro m(a)",
        "endmacro",
        "call m(1)",
        "endcall",
        "x",
        "x|list",
        "loop.index",
        "'a' * 99999999",
        "x|map('upper')",
        "~",
        "+",
        "(",
        ")",
        "[",
        "]",
        "x[1:]",
        "is defined",
        "text",
        "\n",
        "é",
        "generation",
        "endgenerationendgeneration",
        "**",
        "%",
        "9999999",
        "'%d'",
        ".format(x)",
    ]
)


class TestAnyText:
    @staticmethod
    def run(source: str) -> None:
        with takes_at_most(1), contextlib.suppress(TemplateError):
            render(source, {"x": ["a", 1, {"b": None}]})

    @given(st.text(max_size=200))
    def test_is_rendered_or_refused(self, text: str) -> None:
        self.run(text)
        self.run("{{" + text + "}}")
        self.run("{%" + text + "%}")

    @settings(max_examples=200)
    @given(st.lists(PIECES, max_size=30))
    def test_of_the_language_is_rendered_or_refused(self, pieces: list[str]) -> None:
        self.run(" ".join(pieces))
        self.run("{{ " + " ".join(pieces) + " }}")
