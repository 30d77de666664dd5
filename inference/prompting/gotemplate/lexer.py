"""Source of a Go template → tokens.

Text between actions is trimmed here as `{{-` and `-}}` ask, comments disappear here. Knows
nothing of grammar: any sequence of well-formed tokens passes.
"""

import re
from typing import Final, NamedTuple

from inference.prompting.errors import TemplateLimitError, TemplateParseError
from inference.prompting.limits import MAX_TOKENS

_SPACE: Final = " \t\r\n"
_BLANKS: Final = frozenset(_SPACE)
_OPEN: Final = "{{"
_KEYWORDS: Final = frozenset(
    {"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template"}
    | {"with"}
)
_ENDS: Final = r"(?=[ \t\r\n.,|:()]|\}\}|\Z)"
_TOKEN: Final = re.compile(
    rf"""
      (?P<close>   [ \t\r\n]+-\}}\}}[ \t\r\n]* | \}}\}} )
    | (?P<space>   [ \t\r\n]+ )
    | (?P<field>   \.[^\W0-9]\w*{_ENDS} )
    | (?P<word>    [^\W0-9]\w*{_ENDS} )
    | (?P<variable>\$\w*{_ENDS} )
    | (?P<string>  "[^"\\\n]*(?:\\[^\n][^"\\\n]*)*" )
    | (?P<raw>     `[^`]*` )
    | (?P<rune>    '[^'\\\n]*(?:\\[^\n][^'\\\n]*)*' )
    | (?P<left>    \( )
    | (?P<right>   \) )
    | (?P<declare> := )
    | (?P<assign>  = )
    | (?P<pipe>    \| )
    | (?P<comma>   , )
    | (?P<number>  (?= [+-]|\.?[0-9] ) (?> [+-]?
          (?: 0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
            | 0[bB][01_]* | 0[oO][0-7_]*
            | [0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)? ) ) (?!\w) )
    | (?P<dot>     \.{_ENDS} )
    """,
    re.VERBOSE,
)
_LEADING: Final = re.compile(r"[ \t\r\n]*")
_DEPTHS: Final = {"left": 1, "right": -1}
_UNBALANCED: Final = ("unclosed left paren", "unexpected right paren")
_COMMENT_END: Final = re.compile(r"(?:[ \t\r\n](?P<trim>-))?\}\}")


class Token(NamedTuple):
    """One token. `kind` is a group of the pattern above, a keyword, or bool, text, open, eof."""

    kind: str
    text: str
    line: int
    is_spaced: bool = False


def tokenize(source: str) -> list[Token]:
    """Return the tokens of a source, ending in one of kind eof.

    Raises TemplateParseError where no token can be read, TemplateLimitError for too many.
    """
    return _Lexer(source).run()


class _Lexer:
    """The position in one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._line = 1
        self._counted = 0
        self._tokens: list[Token] = []

    def run(self) -> list[Token]:
        """Go through the source once."""
        source = self._source
        while (start := source.find(_OPEN, self._at)) >= 0:
            after = start + len(_OPEN)
            is_trimmed = source.startswith("-", after) and source[after + 1 : after + 2] in _BLANKS
            self._add_text(source[self._at : start], is_trimmed=is_trimmed)
            self._at = after + 2 if is_trimmed else after
            self._count_lines(start)
            if source.startswith("/*", self._at):
                self._skip_comment()
            else:
                self._read_action()
        self._add_text(source[self._at :], is_trimmed=False)
        self._count_lines(len(source))
        self._tokens.append(Token("eof", "", self._line))
        return self._tokens

    def _add_text(self, text: str, *, is_trimmed: bool) -> None:
        if is_trimmed:
            text = text.rstrip(_SPACE)
        if text:
            self._tokens.append(Token("text", text, self._line))

    def _count_lines(self, until: int) -> None:
        self._line += self._source.count("\n", self._counted, until)
        self._counted = until

    def _skip_comment(self) -> None:
        end = self._source.find("*/", self._at + 2)
        if end < 0:
            raise self._error("unclosed comment")
        closing = _COMMENT_END.match(self._source, end + 2)
        if closing is None:
            raise self._error("comment ends before closing delimiter")
        self._at = closing.end()
        if closing["trim"]:
            rest = _LEADING.match(self._source, self._at)
            self._at = rest.end() if rest else self._at

    def _read_action(self) -> None:
        """Read tokens up to the closing delimiter, which ends the action."""
        line, depth = self._line, 0
        tokens = self._tokens
        tokens.append(Token("open", _OPEN, line))
        kind, is_spaced = "", False
        while kind != "close":
            found = _TOKEN.match(self._source, self._at)
            if found is None:
                self._count_lines(self._at)
                raise self._error(_complaint(self._source, self._at))
            kind, text = found.lastgroup or "", found[0]
            self._at = found.end()
            if kind != "space":
                kind = _word_kind(text) if kind == "word" else kind
                depth += _DEPTHS.get(kind, 0)
                if depth < 0 or (depth and kind == "close"):
                    raise self._error(_UNBALANCED[depth < 0])
                tokens.append(Token(kind, text, line, is_spaced))
            if len(tokens) > MAX_TOKENS:
                raise TemplateLimitError("template source is too large")
            is_spaced = kind == "space"

    def _error(self, complaint: str) -> TemplateParseError:
        return TemplateParseError(f"template line {self._line}: {complaint}")


def _word_kind(text: str) -> str:
    if text in _KEYWORDS:
        return text
    return "bool" if text in {"true", "false"} else "word"


def _complaint(source: str, at: int) -> str:
    """Return what is wrong with the place where no token begins."""
    rest = source[at : at + 20]
    if not rest:
        return "unclosed action"
    first = rest[0]
    if first in "\"'":
        return "unterminated quoted string"
    if first == "`":
        return "unterminated raw quoted string"
    if first == ":":
        return "expected :="
    if first.isdigit() or first in "+-":
        return f"bad number syntax: {rest.split()[0]!r}"
    if first in "$._" or first.isalnum():
        return f"bad character in {rest.split()[0]!r}"
    return f"unexpected character in action: {first!r}"
