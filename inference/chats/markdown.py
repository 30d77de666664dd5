"""Markdown that a model wrote → HTML that a browser may be given, a block at a time.

CommonMark with tables and strikethrough, math between `$`, `$$`, `\\(…\\)` and `\\[…\\]` as MathML,
code with pygments' classes. What comes out of the renderer is hostile until nh3 has been over it:
no image, no style, no class and no scheme but those listed here. The button of a code block and its
frame are put around it behind that. Knows no chat and no socket.
"""

import re
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from typing import Any, Final
from xml.etree.ElementTree import ParseError

import nh3
import pygments
from latex2mathml.converter import convert
from latex2mathml.exceptions import (
    DenominatorNotFoundError,
    DoubleSubscriptsError,
    DoubleSuperscriptsError,
    ExtraLeftOrMissingRightError,
    InvalidAlignmentError,
    InvalidStyleForGenfracError,
    InvalidWidthError,
    LimitsMustFollowMathOperatorError,
    MissingEndError,
    MissingSuperScriptOrSubscriptError,
    NoAvailableTokensError,
    NumeratorNotFoundError,
)
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.token import Text as PlainText
from pygments.util import ClassNotFound

RENDERER: Final = 1  # one more wherever the same text is shown otherwise

# Markup inside one paragraph is looked for by trying; longer ones are not a person's.
_MOST_INLINE: Final = 20_000
_MOST_CODE: Final = 60_000
# Some of pygments' expressions take the square of what they look at, and nothing else runs then.
_MOST_CODE_LINE: Final = 500
_MOST_BLOCK_S: Final = 0.1
_MOST_SPENT_S: Final = 0.3  # on all code of a text
_SPENT_S: Final = "spent_s"
_MOST_MATH: Final = 2_000
_PART_LINES: Final = 60  # of code that grows; what has closed is not highlighted again
_IS_GROWING: Final = "is_growing"
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9+#._-]{1,30}")
_CODE: Final = re.compile(
    r'<pre class="highlight"><code(?: data-language="([A-Za-z0-9+#._-]{1,30})")?>'
    r"(.*?)</code></pre>",
    re.DOTALL,
)
_MATH_ERRORS: Final = (
    DenominatorNotFoundError,
    DoubleSubscriptsError,
    DoubleSuperscriptsError,
    ExtraLeftOrMissingRightError,
    InvalidAlignmentError,
    InvalidStyleForGenfracError,
    InvalidWidthError,
    LimitsMustFollowMathOperatorError,
    MissingEndError,
    MissingSuperScriptOrSubscriptError,
    NoAvailableTokensError,
    NumeratorNotFoundError,
    ParseError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RecursionError,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXT_TAGS: Final = _words(
    "p br hr h1 h2 h3 h4 h5 h6 strong em s code pre blockquote ul ol li a span div table "
    "thead tbody tr th td"
)
_MATH_TAGS: Final = _words(
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover "
    "munderover mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts"
)
_MATH_ATTRIBUTES: Final = _words(
    "display mathvariant stretchy fence form separator accent accentunder columnalign "
    "rowalign linethickness lspace rspace width height depth displaystyle scriptlevel "
    "minsize maxsize movablelimits notation symmetric"
)
_ALIGNED: Final = frozenset({"left", "right", "center"})
# Lexers that have been tried with texts made to take long; what is another language is shown plain.
LANGUAGES: Final = _words(
    "ada asm awk bash bat c clojure cmake cobol console cpp csharp css dart diff docker elixir "
    "erlang fortran gherkin go graphql groovy haskell html http ini javascript json jsx julia "
    "kotlin less lisp lua markdown matlab nginx nim objective-c pascal perl php powershell "
    "prolog protobuf pycon python r ruby rust scala scheme scss sql swift text toml tsx "
    "typescript vim xml yaml zig"
)
_CODE_CLASSES: Final = frozenset(name for name in STANDARD_TYPES.values() if name)
_cleaner: Final = nh3.Cleaner(
    tags=set(_TEXT_TAGS | _MATH_TAGS),
    clean_content_tags={"script", "style", "iframe", "object", "template", "noscript", "svg"},
    attributes={
        "a": {"href", "title"},
        "ol": {"start"},
        "code": {"data-language"},
        **{tag: set(_MATH_ATTRIBUTES) for tag in _MATH_TAGS},
    },
    tag_attribute_values={
        "th": {"data-align": set(_ALIGNED)},
        "td": {"data-align": set(_ALIGNED)},
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    allowed_classes={
        "pre": {"highlight"},
        "span": {*_CODE_CLASSES, "math", "display"},
        "div": {"math"},
    },
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)


def render_blocks(text: str) -> list[str]:
    """Return the sanitised HTML of each of a text's top-level blocks."""
    return [html for html, _ in _blocks(text, {})]


@lru_cache(maxsize=256)
def render_once(text: str) -> tuple[str, ...]:
    """Return as `render_blocks`; what is asked again soon is not computed again."""
    return tuple(render_blocks(text))


def growing_blocks(text: str, references: dict[str, Any]) -> list[tuple[str, int]]:
    """Return each top-level block's sanitised HTML with the number of its first line.

    `references` are the links that are defined by name: of earlier parts, and then of this too.
    """
    return _blocks(text, {"references": references, _IS_GROWING: True})


def _blocks(text: str, env: dict[str, Any]) -> list[tuple[str, int]]:
    tokens = _markdown.parse(text, env)
    return [(_html(group, env), _line(group)) for group in _top_level(tokens)]


def _top_level(tokens: Sequence[Token]) -> list[list[Token]]:
    groups: list[list[Token]] = []
    depth = 0
    for token in tokens:
        if depth == 0:
            groups.append([])
        groups[-1].append(token)
        depth += token.nesting
    return groups


def _line(group: Sequence[Token]) -> int:
    first = group[0].map
    return first[0] if first else 0


def _html(group: Sequence[Token], env: dict[str, Any]) -> str:
    raw = _markdown.renderer.render(group, _markdown.options, env)
    return _CODE.sub(_framed, _cleaner.clean(raw)).strip()


def _framed(found: re.Match[str]) -> str:
    language = found[1] or ""
    return (
        '<div class="code"><div class="code-head">'
        f'<span class="code-language">{escape(language)}</span>'
        '<button type="button" class="copy code-copy">Copy</button></div>'
        f'<pre class="highlight" tabindex="0"><code>{found[2]}</code></pre></div>'
    )


# ------------------------------------------------------------------ what the renderer is told


def _image(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Return an image's words and a link to it: nothing is fetched that a model names."""
    token = tokens[index]
    words = self.renderInlineAsText(token.children or [], options, env)
    source = str(token.attrs.get("src", ""))
    return f'<a href="{escape(source)}">{escape(words or source)}</a>'


def _code(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    del self, options
    token = tokens[index]
    language = (token.info.split() or [""])[0]
    if not _LANGUAGE.fullmatch(language):
        language = ""
    named = f' data-language="{escape(language)}"' if language else ""
    write = _highlighted_in_parts if _IS_GROWING in env else _highlighted
    _lexer(language.lower())  # it is made once, which is no part of this text's time
    began_s = time.thread_time()
    has_time = env.get(_SPENT_S, 0.0) < _MOST_SPENT_S
    html = write(token.content, language) if has_time else escape(token.content)
    env[_SPENT_S] = env.get(_SPENT_S, 0.0) + time.thread_time() - began_s
    return f'<pre class="highlight"><code{named}>{html}</code></pre>'


def _cell(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Return the start of a table's cell: its side is an attribute, as styles are not allowed."""
    del self, options, env
    token = tokens[index]
    side = str(token.attrs.get("style", "")).removeprefix("text-align:")
    aligned = f' data-align="{side}"' if side in _ALIGNED else ""
    return f"<{token.tag}{aligned}>"


def _highlighted(code: str, language: str) -> str:
    lexer = _lexer(language.lower()) if language and _is_for_people(code) else None
    if lexer is None:
        return escape(code)
    html: str = pygments.format(_tokens_in_time(lexer, code), _formatter)
    return html


def _tokens_in_time(lexer: Lexer, code: str) -> Iterator[tuple[Any, str]]:
    """Give tokens for as long as a block may take; what is left then is one without a colour."""
    until_s = time.thread_time() + _MOST_BLOCK_S
    for at, kind, text in lexer.get_tokens_unprocessed(code):
        yield kind, text
        if time.thread_time() > until_s:
            yield PlainText, code[at + len(text) :]
            return


def _is_for_people(code: str) -> bool:
    is_short = len(code) <= _MOST_CODE
    return is_short and all(len(line) <= _MOST_CODE_LINE for line in code.split("\n"))


def _highlighted_in_parts(code: str, language: str) -> str:
    """Return code that is not at its end: what crosses a part's end may have other colours."""
    lines = code.splitlines(keepends=True)
    starts = range(0, len(lines), _PART_LINES)
    return "".join(_part("".join(lines[at : at + _PART_LINES]), language) for at in starts)


@lru_cache(maxsize=512)
def _part(code: str, language: str) -> str:
    return _highlighted(code, language)


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    try:
        found = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return found if LANGUAGES.intersection(found.aliases) else None


def _math(latex: str, options: dict[str, Any]) -> str:
    return _mathml(latex, is_display=bool(options.get("display_mode")))


@lru_cache(maxsize=1024)
def _mathml(latex: str, *, is_display: bool) -> str:
    if len(latex) > _MOST_MATH:
        return f"<code>{escape(latex)}</code>"
    try:
        return convert(latex, display="block" if is_display else "inline")
    except _MATH_ERRORS:  # a model has written it, and it need not be finished
        return f"<code>{escape(latex)}</code>"


def _display_math(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Return display math inside a paragraph, which holds no `div`."""
    del self, options, env
    latex = str(tokens[index].content).strip()
    return f'<span class="math display">{_mathml(latex, is_display=True)}</span>'


def _bracket_math(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - as rules are called
    r"""Read `\(…\)` and `\[…\]`."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in {r"\(", r"\["}:
        return False
    closing = r"\)" if opening == r"\(" else r"\]"
    start = state.pos + 2
    end = state.src.find(closing, start, min(state.posMax, start + _MOST_MATH))
    if end < 0:
        return False
    if not silent:
        kind = "math_inline" if closing == r"\)" else "math_inline_double"
        state.push(kind, "math", 0).content = state.src[start:end]
    state.pos = end + 2
    return True


def _leave_long_ones(state: StateCore) -> None:
    """Take a paragraph that is too long to look for markup in as it is."""
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > _MOST_INLINE:
            token.children = [Token("text", "", 0, content=token.content)]
            token.type = "inline_as_it_is"


def _as_inline(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    return self.renderInline(tokens[index].children or [], options, env)


def _make() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20})
    made.enable(["table", "strikethrough"])
    # A line of dashes that grows would make a heading of the text above it, for a blink.
    made.disable("lheading")
    dollarmath_plugin(
        made,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
        renderer=_math,
    )
    made.inline.ruler.before("escape", "bracket_math", _bracket_math)
    made.core.ruler.before("inline", "leave_long_ones", _leave_long_ones)
    made.add_render_rule("math_inline_double", _display_math)
    made.add_render_rule("image", _image)
    made.add_render_rule("fence", _code)
    made.add_render_rule("code_block", _code)
    made.add_render_rule("th_open", _cell)
    made.add_render_rule("td_open", _cell)
    made.add_render_rule("inline_as_it_is", _as_inline)
    return made


_formatter: Final[HtmlFormatter[str]] = HtmlFormatter(nowrap=True)
_markdown: Final = _make()
