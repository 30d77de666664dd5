"""Changes to a Jinja template's syntax tree that make its work visible to the meter.

Loops announce their turns, containers and slices are weighed, `~` becomes a guarded call, and text
that goes into a variable is counted. The functions called are attributes of the environment, which
a template cannot reach or replace. Knows nothing of what those functions do.
"""

from typing import Final, cast

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

TICK: Final = "metered_tick"
ITERATE: Final = "metered_iterate"
CHARGE: Final = "metered_charge"
CHARGE_ALL: Final = "metered_charge_all"
CONCATENATE: Final = "metered_concatenate"


def rewrite(tree: nodes.Template) -> None:
    """Change a tree in place."""
    _Rewriter().visit(tree)


def _call(name: str, node: nodes.Node, *arguments: nodes.Expr) -> nodes.Call:
    function = nodes.EnvironmentAttribute(name)
    return nodes.Call(function, list(arguments), [], None, None, lineno=node.lineno)


class _Rewriter(NodeTransformer):
    """Walks a tree; `_buffers` is how many variables the text at this point goes into."""

    def __init__(self) -> None:
        self._buffers = 0

    def _tick(self, node: nodes.Node, characters: int = 0) -> nodes.ExprStmt:
        return nodes.ExprStmt(_call(TICK, node, nodes.Const(characters)), lineno=node.lineno)

    def _buffered(self, node: nodes.Node) -> nodes.Node:
        self._buffers += 1
        self.generic_visit(node)
        self._buffers -= 1
        return node

    visit_AssignBlock = _buffered  # noqa: N815 - jinja2 finds it by the node's name
    visit_Block = _buffered  # noqa: N815
    visit_CallBlock = _buffered  # noqa: N815
    visit_FilterBlock = _buffered  # noqa: N815
    visit_Macro = _buffered  # noqa: N815

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Pay for the items of a loop and for each of its turns."""
        self._buffers += node.recursive
        self.generic_visit(node)
        self._buffers -= node.recursive
        node.iter = _call(ITERATE, node, cast("nodes.Expr", node.iter))
        node.body.insert(0, self._tick(node))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node | list[nodes.Node]:  # noqa: N802
        """Count the template's own text where it goes into a variable."""
        self.generic_visit(node)
        size = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        return [self._tick(node, size), node] if self._buffers and size else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Replace `~` by a function that knows its limits."""
        self.generic_visit(node)
        return _call(CONCATENATE, node, *node.nodes)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Pay for comparing, unless one side is a constant and the other is only looked at."""
        self.generic_visit(node)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        is_search = any(operand.op in {"in", "notin"} for operand in node.ops)
        if not is_search and any(isinstance(side, nodes.Const) for side in sides):
            return node
        node.expr = self._compared(node.expr)
        for operand in node.ops:
            operand.expr = self._compared(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Pay for the copy that a slice makes."""
        self.generic_visit(node)
        return _call(CHARGE, node, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Weigh a list that is more than constants."""
        self.generic_visit(node)
        return self._weighed(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Weigh a tuple that is more than constants and not a target of an assignment."""
        self.generic_visit(node)
        return self._weighed(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """Weigh a dict that is more than constants."""
        self.generic_visit(node)
        return self._weighed(node, [part for pair in node.items for part in (pair.key, pair.value)])

    def _weighed(self, node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(part, nodes.Const) for part in parts):
            return node
        return _call(CHARGE, node, node)

    def _compared(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Const):
            return node
        return _call(CHARGE_ALL, node, node)
