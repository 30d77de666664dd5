"""What a model writes becomes HTML that can do nothing, whatever it is."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from inference.chats.growth import GrowingText, first_difference
from inference.chats.markdown import _MATH_TAGS, _TEXT_TAGS, LANGUAGES, render_blocks
from tests.timing import takes_at_most

# What no block may have in it, as markup: text that only says so is harmless.
TAGS = set(_TEXT_TAGS | _MATH_TAGS) | {"button"}
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/track.png)",
    "![x](data:image/svg+xml;base64,PHN2Zy8+)",
    "![a](x){onerror=alert(1)}",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x](//evil.example)",
    "[x](/signout)",
    "<javascript:alert(1)>",
    '[x](http://a.example "onmouseover=alert(1) \\" onclick=alert(1)")',
    '[x](http://a.example/"onclick="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    "<a href=javascript:alert(1)>x</a>",
    "<svg/onload=alert(1)>",
    "<math><mtext><script>alert(1)</script></mtext></math>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<style>*{display:none}</style>",
    "<form action=//evil.example><button>x</button></form>",
    "<base href=//evil.example>",
    "```<script>alert(1)</script>\n<script>alert(1)</script>\n```",
    '```python" onclick="alert(1)\nx\n```',
    "```\n</code></pre><script>alert(1)</script>\n```",
    '```html\n<pre class="highlight"><code>x</code></pre>\n```',
    "    <script>alert(1)</script>",
    "`<script>alert(1)</script>`",
    "$<script>alert(1)</script>$",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$$\\href{javascript:alert(1)}{x}$$",
    "$\\style{background:url(//evil.example)}{x}$",
    '$\\color{red" onclick="alert(1)}{x}$',
    '\\(\\class{x" onclick="a}{b}\\)',
    "\\[\\text{</math><script>alert(1)</script>}\\]",
    "| <script>a</script> | b |\n|:--|--:|\n| <img src=x onerror=a> | [x](javascript:a) |",
    "<!-- --><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "# <script>alert(1)</script>",
    "> - <script>alert(1)</script>\n>   1. <svg onload=a>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e<script>alert(1)</script>",
    "<scr\0ipt>alert(1)</scr\0ipt>",
    "<" * 200 + "script>",
)


class Markup(HTMLParser):
    """Gathers what a browser would take for markup."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def markup(blocks: list[str]) -> list[tuple[str, dict[str, str | None]]]:
    parser = Markup()
    parser.feed("".join(blocks))
    return parser.found


def wrong_with(blocks: list[str]) -> list[object]:
    """Return what a browser could be made to do, or to fetch."""
    wrong: list[object] = []
    for tag, attributes in markup(blocks):
        names = set(attributes)
        if tag not in TAGS or any(name.startswith("on") for name in names):
            wrong.append((tag, attributes))
        if names & {"style", "src", "srcset", "action", "id", "name", "formaction", "xlink:href"}:
            wrong.append((tag, attributes))
        if tag == "a":
            href = attributes.get("href")
            if href is not None and not re.match(r"(?:https?://|mailto:)", href):
                wrong.append((tag, attributes))
            if attributes.get("target") != "_blank" or "noopener" not in str(attributes.get("rel")):
                wrong.append((tag, attributes))
        if tag == "button" and attributes != {"type": "button", "class": "copy code-copy"}:
            wrong.append((tag, attributes))
    return wrong


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_can_do_nothing(text: str) -> None:
    assert wrong_with(render_blocks(text)) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_can_do_nothing_while_it_grows(text: str) -> None:
    growing = GrowingText()
    for end in range(1, len(text) + 1):
        growing.update(text[:end])
        assert wrong_with(growing.blocks) == []


def test_hostile_texts_together_can_do_nothing() -> None:
    blocks = render_blocks("\n\n".join(HOSTILE))

    assert len(blocks) > len(HOSTILE) / 2
    assert wrong_with(blocks) == []


def test_check_finds_what_is_wrong() -> None:
    for html in ("<script>", "<a href='javascript:a'>", "<p onclick=a>", "<img src=x>", "<p id=x>"):
        assert wrong_with([html])


def test_image_becomes_its_words_and_a_link() -> None:
    [block] = render_blocks("![A *cat*](https://a.example/c.png)")

    assert ">A cat</a>" in block
    assert 'href="https://a.example/c.png"' in block


def test_code_has_its_language_colours_and_a_button() -> None:
    [block] = render_blocks("```python\ndef f(): pass\n```")

    assert block.startswith('<div class="code"><div class="code-head">')
    assert '<span class="code-language">python</span>' in block
    assert '<span class="k">def</span>' in block
    assert block.count("<button") == 1


def test_unknown_language_is_named_and_left_as_it_is() -> None:
    [block] = render_blocks("```nonsense9\na < b\n```")

    assert '<span class="code-language">nonsense9</span>' in block
    assert "<code>a &lt; b\n</code>" in block


def test_code_inside_a_list_is_framed_too() -> None:
    [block] = render_blocks("- a\n\n  ```js\n  let x = 1\n  ```\n")

    assert block.count('<div class="code">') == 1


@pytest.mark.parametrize("text", ["$x^2$", "\\(x^2\\)", "\\[x^2\\]", "$$x^2$$", "$$\nx^2\n$$"])
def test_math_becomes_mathml(text: str) -> None:
    [block] = render_blocks(text)

    assert "<msup><mi>x</mi><mn>2</mn></msup>" in block
    assert 'class="math' in block


@pytest.mark.parametrize("text", ["It costs $5 and $6.", "`$x$`", "$", "$$", "a $ b"])
def test_money_is_not_math(text: str) -> None:
    assert "<math" not in "".join(render_blocks(text))


@pytest.mark.parametrize(
    "latex", ["\\frac{1}{", "\\left(", "{{{", "\\begin{matrix}", "^", "_^_", "\\\\", "&", "}"]
)
def test_unfinished_math_is_no_error(latex: str) -> None:
    for text in (f"${latex}$", f"\\({latex}\\)", f"$$\n{latex}\n$$"):
        assert wrong_with(render_blocks(text)) == []


def test_table_cells_are_aligned_without_styles() -> None:
    [block] = render_blocks("| a | b |\n|---|--:|\n| 1 | 2 |")

    assert '<td data-align="right">2</td>' in block


def test_line_ends_are_kept_and_text_is_escaped() -> None:
    assert render_blocks("a < b\nc") == ["<p>a &lt; b<br>\nc</p>"]


LONG = ("[", "![a](", "*a _b ", "> ", "`a``b", "$a", "- ", "\\( ", "<a ", "[a]: x\n")


@pytest.mark.parametrize("text", [*(piece * 6_000 for piece in LONG), "a *b* " * 200_000])
def test_no_text_takes_long(text: str) -> None:
    with takes_at_most(0.7):
        render_blocks(text)


WHOLE = (
    "# Title\n\nOne *two*\nthree.\n\n- a\n- b\n\n  more\n- c\n\n1. one\n2. two\n\n```python\n"
    "def f():\n\n    return 1\n```\n\n> quote\n> > deeper\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    "Math $x$ and\n\n$$\ny\n$$\n\n    indented\n\nSetext\n===\n\n***\n\nThe end [ref].\n\nlast\n"
)


def words_of(html: str) -> str:
    return unescape(re.sub("<[^>]+>", "", html))


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_no_code_takes_long_in_any_language(language: str) -> None:
    render_blocks(f"```{language}\na\n```")  # its expressions are compiled now
    for piece in ("a ", '\\"', "1", "("):
        line = (piece * 500)[:500]
        code = "\n".join([line] * 25)
        with takes_at_most(0.3):
            [html] = render_blocks(f"```{language}\n{code}\n```")
        assert words_of(html).count(line) == 25


def test_many_blocks_of_code_take_no_longer_than_one() -> None:
    block = "```javascript\n" + '\\"' * 200 + "\n```\n\n"
    with takes_at_most(1.0):
        render_blocks(block * 500)


def test_code_with_an_endless_line_and_other_languages_stay_plain() -> None:
    for code in ("```python\nx = 1 # " + "a" * 500, "```aspectj\nint a = 1;"):
        [html] = render_blocks(code)
        assert "<span" not in html.partition("<pre")[2]


@pytest.mark.parametrize("step", [1, 3, 7, 50])
def test_text_that_grows_becomes_what_it_would_at_once(step: int) -> None:
    growing = GrowingText()
    for end in range(step, len(WHOLE) + step, step):
        growing.update(WHOLE[:end])

    assert growing.blocks == render_blocks(WHOLE)


def test_blocks_that_are_over_stay() -> None:
    growing = GrowingText()
    growing.update("One.\n\nTwo.\n\nThree.\n\nFo")
    before = list(growing.blocks)
    growing.update("One.\n\nTwo.\n\nThree.\n\nFour.")

    assert first_difference(before, growing.blocks) == 3


def test_growth_costs_what_its_end_costs() -> None:
    growing, whole, rendered = GrowingText(), "", 0
    for number in range(300):
        whole += f"Paragraph {number} with `code`.\n\n"
        growing.update(whole)
        rendered += len(whole) - growing._closed_end

    assert growing.blocks == render_blocks(whole)
    assert rendered / 300 < 200  # characters an update, of 9,000


@pytest.mark.parametrize(
    ("known", "blocks", "at"),
    [([], [], 0), ([], ["a"], 0), (["a"], ["a"], 1), (["a", "b"], ["a", "c"], 1), (["a"], [], 0)],
)
def test_first_difference(known: list[str], blocks: list[str], at: int) -> None:
    assert first_difference(known, blocks) == at
