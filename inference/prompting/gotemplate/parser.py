"""Tokens of a Go template → syntax tree.

The grammar is that of Go 1.23's text/template (`else with`, `break`, `continue` included). Knows
nothing of values: the functions a template may call are only names here.
"""

from collections.abc import Callable, Collection
from typing import Final

from inference.prompting.errors import TemplateLimitError, TemplateParseError
from inference.prompting.gotemplate import literals, nodes
from inference.prompting.gotemplate.lexer import Token, tokenize
from inference.prompting.gotemplate.values import to_bytes
from inference.prompting.limits import MAX_NESTING, MAX_SOURCE_BYTES

_BRANCHES: Final[dict[str, type[nodes.If | nodes.Range | nodes.With]]] = {
    "if": nodes.If,
    "range": nodes.Range,
    "with": nodes.With,
}
_NAMES: Final = frozenset({"string", "raw"})
_NOT_COMMANDS: Final = (nodes.Literal, nodes.Dot, nodes.Nil)


def parse(source: str, functions: Collection[str]) -> nodes.Template:
    """Return the tree of a source that may call the named functions.

    Raises TemplateParseError for anything that Go would refuse too, TemplateLimitError for a
    source that is too large or nested too deeply.
    """
    if len(source) > MAX_SOURCE_BYTES or len(to_bytes(source)) > MAX_SOURCE_BYTES:
        raise TemplateLimitError("template source is too large")
    try:
        return _Parser(tokenize(source), functions).template()
    except RecursionError:
        raise TemplateLimitError("template is nested too deeply") from None


class _Parser:
    """The position in one list of tokens, and which variables are known there."""

    def __init__(self, tokens: list[Token], functions: Collection[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._functions = functions
        self._variables = ["$"]
        self._range_depth = 0
        self._depth = 0
        self._definitions: dict[str, tuple[nodes.Node, ...]] = {}
        self._operands: dict[str, Callable[[Token], nodes.Operand]] = {
            "bool": lambda token: nodes.Literal(token.text == "true"),
            "dot": lambda _: nodes.Dot(),
            "field": lambda token: nodes.Field((token.text[1:],)),
            "left": self._parenthesised,
            "nil": lambda _: nodes.Nil(),
            "number": lambda token: self._literal(token, literals.number),
            "raw": lambda token: self._literal(token, literals.unquote),
            "rune": lambda token: self._literal(token, literals.rune),
            "string": lambda token: self._literal(token, literals.unquote),
            "variable": self._variable,
            "word": self._call,
        }
        self._actions: dict[str, Callable[[Token], nodes.Node]] = {
            "block": self._block,
            "break": lambda token: self._loop_control(token, nodes.Break()),
            "continue": lambda token: self._loop_control(token, nodes.Continue()),
            "if": self._branch,
            "range": self._branch,
            "template": self._include,
            "with": self._branch,
        }

    def template(self) -> nodes.Template:
        """Read the whole source."""
        body: list[nodes.Node] = []
        while (token := self._next()).kind != "eof":
            if token.kind == "open" and self._peek().kind == "define":
                self._define()
            elif token.kind == "open" and self._peek().kind in {"end", "else"}:
                raise self._unexpected(self._peek(), "template")
            else:
                body.append(self._node(token))
        return nodes.Template(tuple(body), self._definitions)

    # ------------------------------------------------------------ tokens

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind != "eof"
        return token

    def _expect(self, kind: str, context: str) -> Token:
        token = self._next()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    def _error(self, complaint: str, line: int) -> TemplateParseError:
        return TemplateParseError(f"template line {line}: {complaint}")

    def _unexpected(self, token: Token, context: str) -> TemplateParseError:
        what = "EOF" if token.kind == "eof" else repr(token.text[:40])
        return self._error(f"unexpected {what} in {context}", token.line)

    def _deepen(self) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise TemplateLimitError("template is nested too deeply")

    # ------------------------------------------------------------ texts and actions

    def _list(self) -> tuple[tuple[nodes.Node, ...], Token]:
        """Read nodes up to an `end` or `else`, which is returned with them."""
        found: list[nodes.Node] = []
        while True:
            token = self._next()
            if token.kind == "open" and self._peek().kind in {"end", "else"}:
                return tuple(found), self._next()
            found.append(self._node(token))

    def _node(self, token: Token) -> nodes.Node:
        if token.kind == "text":
            return nodes.Text(token.text)
        if token.kind != "open":
            raise self._unexpected(token, "template")
        action = self._actions.get(self._peek().kind)
        if action:
            return action(self._next())
        return nodes.Action(self._pipe("command", "close"))

    def _loop_control(self, token: Token, node: nodes.Node) -> nodes.Node:
        self._expect("close", token.kind)
        if not self._range_depth:
            raise self._error(f"{token.kind} outside range", token.line)
        return node

    def _branch(self, token: Token) -> nodes.Node:
        """Read the rest of an if, range or with, its `end` included."""
        self._deepen()
        kind, known = token.kind, len(self._variables)
        pipe = self._pipe(kind, "close")
        self._range_depth += kind == "range"
        body, last = self._list()
        self._range_depth -= kind == "range"
        otherwise: tuple[nodes.Node, ...] = ()
        if last.kind == "else":
            otherwise = self._otherwise(kind)
        else:
            self._expect("close", "end")
        del self._variables[known:]
        self._depth -= 1
        return _BRANCHES[kind](pipe, body, otherwise)

    def _otherwise(self, kind: str) -> tuple[nodes.Node, ...]:
        """Read what follows the word `else`, up to and including the `end`."""
        if kind in {"if", "with"} and self._peek().kind == kind:
            return (self._branch(self._next()),)
        self._expect("close", "else")
        body, last = self._list()
        if last.kind != "end":
            raise self._unexpected(last, "else")
        self._expect("close", "end")
        return body

    def _include(self, token: Token) -> nodes.Node:
        name = self._template_name("template clause")
        if self._peek().kind == "close":
            self._next()
            return nodes.Include(token.line, name, None)
        return nodes.Include(token.line, name, self._pipe("template clause", "close"))

    def _template_name(self, context: str) -> str:
        token = self._next()
        if token.kind not in _NAMES:
            raise self._unexpected(token, context)
        return self._unquoted(token)

    def _define(self) -> None:
        self._next()
        name = self._template_name("define clause")
        self._expect("close", "define clause")
        self._add_definition(name)

    def _block(self, token: Token) -> nodes.Node:
        name = self._template_name("block clause")
        pipe = self._pipe("block clause", "close")
        self._add_definition(name)
        return nodes.Include(token.line, name, pipe)

    def _add_definition(self, name: str) -> None:
        """Read a definition's body; of two with one name, one must be blank."""
        self._deepen()
        variables, depth = self._variables, self._range_depth
        self._variables, self._range_depth = ["$"], 0
        body, last = self._list()
        if last.kind != "end":
            raise self._unexpected(last, "define clause")
        self._expect("close", "end")
        self._variables, self._range_depth = variables, depth
        self._depth -= 1
        earlier = self._definitions.get(name, ())
        if _is_blank(earlier):
            self._definitions[name] = body
        elif not _is_blank(body):
            raise self._error(f"multiple definition of template {name!r}", last.line)

    # ------------------------------------------------------------ pipelines

    def _pipe(self, context: str, end: str) -> nodes.Pipe:
        line = self._peek().line
        variables, is_assignment = self._declarations(context)
        commands: list[nodes.Command] = []
        while (token := self._peek()).kind != end:
            if token.kind not in self._operands:
                raise self._unexpected(token, context)
            commands.append(self._command())
        self._next()
        if not commands:
            raise self._error(f"missing value for {context}", line)
        if any(isinstance(command.words[0], _NOT_COMMANDS) for command in commands[1:]):
            raise self._error("non executable command in pipeline", line)
        return nodes.Pipe(line, tuple(commands), variables, is_assignment)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Read `$x :=`, `$x =` or, in a range, `$x, $y :=`."""
        names: list[str] = []
        while self._peek().kind == "variable":
            name, mark = self._tokens[self._at : self._at + 2]
            if mark.kind not in {"declare", "assign", "comma"}:
                break
            self._at += 2
            names.append(name.text)
            self._variables.append(name.text)
            if mark.kind != "comma":
                return tuple(names), mark.kind == "assign"
            if context != "range" or len(names) > 1:
                raise self._error(f"too many declarations in {context}", name.line)
            if self._peek().kind not in {"variable", "close", "right"}:
                raise self._error("range can only initialize variables", name.line)
        return tuple(names), False

    def _command(self) -> nodes.Command:
        """Read words separated by spaces, and the `|` after them if there is one."""
        words = [self._operand()]
        while (token := self._peek()).kind not in {"close", "right"}:
            if token.kind == "pipe":
                self._next()
                break
            if not token.is_spaced or token.kind not in self._operands:
                raise self._unexpected(token, "operand")
            words.append(self._operand())
        return nodes.Command(tuple(words))

    def _operand(self) -> nodes.Operand:
        token = self._next()
        operand = self._operands[token.kind](token)
        names: list[str] = []
        while (follower := self._peek()).kind == "field" and not follower.is_spaced:
            names.append(self._next().text[1:])
        return self._with_fields(operand, tuple(names), token) if names else operand

    def _with_fields(
        self, operand: nodes.Operand, names: tuple[str, ...], token: Token
    ) -> nodes.Operand:
        match operand:
            case nodes.Field():
                return nodes.Field(operand.names + names)
            case nodes.Variable():
                return nodes.Variable(operand.name, names)
            case nodes.Call() | nodes.Pipe():
                return nodes.Chain(operand, names)
        raise self._error(f"unexpected . after term {token.text[:40]!r}", token.line)

    # ------------------------------------------------------------ operands

    def _parenthesised(self, _token: Token) -> nodes.Operand:
        self._deepen()
        pipe = self._pipe("parenthesized pipeline", "right")
        self._depth -= 1
        return pipe

    def _literal(self, token: Token, convert: Callable[[str], str | int | float]) -> nodes.Operand:
        try:
            return nodes.Literal(convert(token.text))
        except ValueError as error:
            raise self._error(str(error), token.line) from error

    def _unquoted(self, token: Token) -> str:
        try:
            return literals.unquote(token.text)
        except ValueError as error:
            raise self._error(str(error), token.line) from error

    def _variable(self, token: Token) -> nodes.Operand:
        if token.text not in self._variables:
            raise self._error(f"undefined variable {token.text!r}", token.line)
        return nodes.Variable(token.text)

    def _call(self, token: Token) -> nodes.Operand:
        if token.text not in self._functions:
            raise self._error(f"function {token.text!r} not defined", token.line)
        return nodes.Call(token.text)


def _is_blank(body: tuple[nodes.Node, ...]) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body)
