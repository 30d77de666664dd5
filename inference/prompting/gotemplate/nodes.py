"""The syntax tree of a Go template: plain, immutable, shared between renderings.

Knows nothing of how it is read or run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Dot:
    """The dot."""


@dataclass(frozen=True, slots=True)
class Nil:
    """The word nil."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a number or a truth value."""

    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Field:
    """Fields of the dot, `.A.B`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.A.B`; the name includes the dollar sign."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name; its arguments are the other words of the command."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of a value, `(pipeline).A.B`."""

    base: "Operand"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """One stage of a pipeline: a function with arguments, or a single operand."""

    words: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, and where their value goes: `$x, $y := command | command`."""

    line: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    is_assignment: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline to print."""

    pipe: Pipe


@dataclass(frozen=True, slots=True)
class If:
    """`{{ if }}`; an `else if` is an If alone in `otherwise`."""

    pipe: Pipe
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class With:
    """`{{ with }}`; an `else with` is a With alone in `otherwise`."""

    pipe: Pipe
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A loop; `otherwise` runs if there is nothing to loop over."""

    pipe: Pipe
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Include:
    """A use of a definition, `{{ template "name" pipeline }}`."""

    line: int
    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a loop."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The end of one turn of a loop."""


Operand: TypeAlias = Dot | Nil | Literal | Field | Variable | Call | Chain | Pipe
Node: TypeAlias = Text | Action | If | With | Range | Include | Break | Continue


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed source: its main text and the texts it defines by name."""

    body: tuple[Node, ...]
    definitions: Mapping[str, tuple[Node, ...]]


def pipes(nodes: tuple[Node, ...]) -> Iterator[Pipe]:
    """Yield every pipeline of the nodes and of all below them, parenthesised ones included."""
    pending: list[Node | Pipe] = list(reversed(nodes))
    while pending:
        node = pending.pop()
        match node:
            case Pipe():
                yield node
                words = [word for command in node.commands for word in command.words]
                pending += [word for word in reversed(words) if isinstance(word, Pipe)]
            case If() | With() | Range():
                pending += [*reversed(node.otherwise), *reversed(node.body), node.pipe]
            case Action() | Include() if node.pipe is not None:
                pending.append(node.pipe)
