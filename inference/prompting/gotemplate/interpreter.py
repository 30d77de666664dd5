"""Syntax tree and value → text.

Behaves as Go's text/template with the option `missingkey=zero`, except that a field of a list is
no value instead of an error. Knows nothing of chats.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from inference.prompting.errors import TemplateLimitError, TemplateRunError
from inference.prompting.gotemplate import nodes
from inference.prompting.gotemplate.builtins import AND, BUILTINS, OR
from inference.prompting.gotemplate.printing import to_text
from inference.prompting.gotemplate.values import (
    MISSING,
    Function,
    Stringer,
    Struct,
    Value,
    sorted_items,
    truth,
    type_name,
    whole,
)
from inference.prompting.limits import MAX_NESTING, MAX_TEMPLATE_DEPTH, Budget

_NOTHING_PIPED: Final = object()
_Words: TypeAlias = tuple[nodes.Operand, ...]
_Evaluator: TypeAlias = Callable[[Any, _Words, Value, Value], Value]


class _Jump(enum.Enum):
    """How a list of nodes ended before its end."""

    BREAK = enum.auto()
    CONTINUE = enum.auto()


def execute(
    template: nodes.Template, value: Value, functions: Mapping[str, Function], budget: Budget
) -> str:
    """Return the template's text for a value, which becomes its dot.

    `functions` come on top of Go's own. Raises TemplateRunError where Go would stop, and
    TemplateLimitError when the budget or the depth is used up.
    """
    run = _Run(template.definitions, {**BUILTINS, **functions}, budget)
    try:
        return run.text(template.body, value)
    except RecursionError:
        raise TemplateLimitError("template is nested too deeply") from None


class _Run:
    """One execution: output so far, variables in sight and the line for error messages."""

    def __init__(
        self,
        definitions: Mapping[str, tuple[nodes.Node, ...]],
        functions: Mapping[str, Function],
        budget: Budget,
    ) -> None:
        self._definitions = definitions
        self._functions = functions
        self._budget = budget
        self._output: list[str] = []
        self._line = 1
        self._depth = 0
        self._template_depth = 0
        self._bound: dict[str, list[Value]] = {}
        self._scope: list[str] = []
        self._walkers: dict[type, Callable[[Any, Value], _Jump | None]] = {
            nodes.Action: self._action,
            nodes.Break: lambda _node, _dot: _Jump.BREAK,
            nodes.Continue: lambda _node, _dot: _Jump.CONTINUE,
            nodes.If: self._if,
            nodes.Include: self._include,
            nodes.Range: self._range,
            nodes.Text: self._text,
            nodes.With: self._with,
        }
        self._commands: dict[type, _Evaluator] = {
            nodes.Call: self._call,
            nodes.Chain: self._chain,
            nodes.Field: self._field,
            nodes.Variable: self._variable,
        }

    def text(self, body: tuple[nodes.Node, ...], dot: Value) -> str:
        """Run the main text and return all output."""
        self._bind("$", dot)
        try:
            self._list(body, dot)
        except TemplateRunError as error:
            raise TemplateRunError(f"template line {self._line}: {error}") from error
        return whole("".join(self._output))

    # ------------------------------------------------------------ variables

    def _bind(self, name: str, value: Value) -> None:
        self._bound.setdefault(name, []).append(value)
        self._scope.append(name)

    def _forget(self, mark: int) -> None:
        """Drop the variables bound since the scope was this long."""
        while len(self._scope) > mark:
            self._bound[self._scope.pop()].pop()

    def _rebind(self, name: str, value: Value) -> None:
        values = self._bound.get(name)
        if not values:
            raise TemplateRunError(f"undefined variable: {name}")
        values[-1] = value

    # ------------------------------------------------------------ nodes

    def _list(self, body: tuple[nodes.Node, ...], dot: Value) -> _Jump | None:
        walkers, spend = self._walkers, self._budget.spend
        for node in body:
            spend()
            jump = walkers[type(node)](node, dot)
            if jump is not None:
                return jump
        return None

    def _write(self, text: str) -> None:
        self._budget.write(len(text))
        self._output.append(text)

    def _text(self, node: nodes.Text, _dot: Value) -> None:
        self._write(node.text)

    def _action(self, node: nodes.Action, dot: Value) -> None:
        value = self._pipe(node.pipe, dot)
        if not node.pipe.variables:
            self._write(to_text(value, self._budget))

    def _if(self, node: nodes.If, dot: Value) -> _Jump | None:
        mark = len(self._scope)
        is_true = truth(self._pipe(node.pipe, dot))
        jump = self._list(node.body if is_true else node.otherwise, dot)
        self._forget(mark)
        return jump

    def _with(self, node: nodes.With, dot: Value) -> _Jump | None:
        mark = len(self._scope)
        value = self._pipe(node.pipe, dot)
        is_true = truth(value)
        jump = self._list(node.body if is_true else node.otherwise, value if is_true else dot)
        self._forget(mark)
        return jump

    def _include(self, node: nodes.Include, dot: Value) -> None:
        self._line = node.line
        body = self._definitions.get(node.name)
        if body is None:
            raise TemplateRunError(f"template {node.name!r} not defined")
        if self._template_depth >= MAX_TEMPLATE_DEPTH:
            raise TemplateLimitError("template calls itself too deeply")
        value = MISSING if node.pipe is None else self._pipe(node.pipe, dot)
        saved = self._bound, self._scope
        self._bound, self._scope = {}, []
        self._template_depth += 1
        self._bind("$", value)
        self._list(body, value)
        self._template_depth -= 1
        self._bound, self._scope = saved

    # ------------------------------------------------------------ range

    def _range(self, node: nodes.Range, dot: Value) -> _Jump | None:
        mark = len(self._scope)
        items = self._items(self._pipe(node.pipe, dot), node.pipe)
        jump = None
        if items:
            self._loop(node, items)
        else:
            jump = self._list(node.otherwise, dot)
        self._forget(mark)
        return jump

    def _items(self, value: Value, pipe: nodes.Pipe) -> Sequence[tuple[Value, Value]] | range:
        """Return what to go through: keys and values, or numbers alone."""
        if isinstance(value, dict):
            self._budget.spend(len(value))
            return sorted_items(value)
        if isinstance(value, list | tuple):
            self._budget.spend(len(value))
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(pipe.variables) > 1:
                raise TemplateRunError(f"can't use {value} to iterate over more than one variable")
            return range(value)
        if value is MISSING:
            return []
        raise TemplateRunError(f"range can't iterate over a {type_name(value)}")

    def _loop(self, node: nodes.Range, items: Sequence[tuple[Value, Value]] | range) -> None:
        """Run the body for every item; a jump ends here."""
        mark = len(self._scope)
        names = node.pipe.variables
        for item in items:
            self._budget.spend()
            index, element = item if isinstance(item, tuple) else (MISSING, item)
            if names:
                self._rebind(names[-1], element)
            if len(names) > 1:
                self._rebind(names[0], index)
            jump = self._list(node.body, element)
            self._forget(mark)
            if jump is _Jump.BREAK:
                break

    # ------------------------------------------------------------ pipelines

    def _pipe(self, pipe: nodes.Pipe, dot: Value) -> Value:
        """Return a pipeline's value, after binding its variables."""
        self._line = pipe.line
        value: Value = _NOTHING_PIPED
        for command in pipe.commands:
            words = command.words
            first = words[0]
            evaluate = self._commands.get(type(first))
            if evaluate is not None:
                value = evaluate(first, words[1:], dot, value)
            else:
                value = self._simple(first, words, dot, value)
            if value is None:
                value = MISSING
        for name in pipe.variables:
            if pipe.is_assignment:
                self._rebind(name, value)
            else:
                self._bind(name, value)
        return value

    def _simple(self, first: nodes.Operand, words: _Words, dot: Value, piped: Value) -> Value:
        """Return the value of a command that is not a call."""
        if len(words) > 1 or piped is not _NOTHING_PIPED:
            raise TemplateRunError("can't give argument to non-function")
        if type(first) is nodes.Nil:
            raise TemplateRunError("nil is not a command")
        return self._operand(first, dot)

    def _operand(self, word: nodes.Operand, dot: Value) -> Value:
        """Return the value of one word."""
        if isinstance(word, nodes.Literal):
            return word.value
        evaluate = self._commands.get(type(word))
        if evaluate is not None:
            return evaluate(word, (), dot, _NOTHING_PIPED)
        if isinstance(word, nodes.Pipe):
            return self._nested(word, dot)
        return dot if isinstance(word, nodes.Dot) else None

    def _nested(self, pipe: nodes.Pipe, dot: Value) -> Value:
        self._budget.spend()
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise TemplateLimitError("template is nested too deeply")
        value = self._pipe(pipe, dot)
        self._depth -= 1
        return value

    def _argument(self, word: nodes.Operand, dot: Value) -> Value:
        value = self._operand(word, dot)
        return None if value is MISSING else value

    # ------------------------------------------------------------ calls and fields

    def _call(self, word: nodes.Call, words: _Words, dot: Value, piped: Value) -> Value:
        name = word.name
        function = self._functions[name]
        count = len(words) + (piped is not _NOTHING_PIPED)
        if count < function.least or (function.most is not None and count > function.most):
            raise TemplateRunError(f"wrong number of args for {name}: got {count}")
        self._budget.spend(1 + count)
        last = [] if piped is _NOTHING_PIPED else [None if piped is MISSING else piped]
        if name in {AND, OR}:
            return self._choose(words, dot, last, is_wanted=name == OR)
        arguments = [self._argument(argument, dot) for argument in words]
        return function.call(arguments + last, self._budget)

    def _choose(self, words: _Words, dot: Value, last: list[Value], *, is_wanted: bool) -> Value:
        """Return the first argument that settles an `and` or `or`, else the last one."""
        value = None
        for word in words:
            value = self._argument(word, dot)
            if truth(value) is is_wanted:
                return value
        return last[0] if last else value

    def _field(self, word: nodes.Field, words: _Words, dot: Value, piped: Value) -> Value:
        return self._follow(dot, word.names, has_arguments=self._has_arguments(words, piped))

    def _variable(self, word: nodes.Variable, words: _Words, _dot: Value, piped: Value) -> Value:
        values = self._bound.get(word.name)
        if not values:
            raise TemplateRunError(f"undefined variable: {word.name}")
        has_arguments = self._has_arguments(words, piped)
        if word.names:
            return self._follow(values[-1], word.names, has_arguments=has_arguments)
        if has_arguments:
            raise TemplateRunError(f"can't give argument to non-function {word.name}")
        return values[-1]

    def _chain(self, word: nodes.Chain, words: _Words, dot: Value, piped: Value) -> Value:
        base = self._operand(word.base, dot)
        return self._follow(base, word.names, has_arguments=self._has_arguments(words, piped))

    def _has_arguments(self, words: _Words, piped: Value) -> bool:
        return bool(words) or piped is not _NOTHING_PIPED

    def _follow(self, value: Value, names: tuple[str, ...], *, has_arguments: bool) -> Value:
        """Return the field of a field of … of a value."""
        last = len(names) - 1
        for position, name in enumerate(names):
            if value is MISSING:
                return MISSING
            value = _field_of(value, name)
            if has_arguments and position == last:
                raise TemplateRunError(f"{name} has arguments but cannot be invoked as function")
        return value


def _field_of(value: Value, name: str) -> Value:
    """Return a field, an entry or the text of a value that is not MISSING."""
    if isinstance(value, dict) and name in value:
        return value[name]
    if isinstance(value, Struct) and name in value.fields:
        return value.fields[name]
    if isinstance(value, Stringer) and name == "String":
        return value.go_string()
    if isinstance(value, dict):
        return None
    if isinstance(value, list | tuple):
        return MISSING
    if value is None:
        raise TemplateRunError(f"nil pointer evaluating interface {{}}.{name}")
    raise TemplateRunError(f"can't evaluate field {name} in type {type_name(value)}")
