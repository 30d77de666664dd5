"""`ollamasite nodes [list|cordon|uncordon|drain|remove] [NAME]`."""

from collections.abc import Callable
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from models_app import nodes
from models_app.models import NodeState
from ollamasite.commands import SiteCommand

_ACTS: Final[dict[str, Callable[[str], bool]]] = {
    "cordon": lambda name: nodes.set_state(name, NodeState.CORDONED, by=None),
    "uncordon": lambda name: nodes.set_state(name, NodeState.ACTIVE, by=None),
    "drain": lambda name: nodes.set_state(name, NodeState.DRAINING, by=None),
    "remove": lambda name: nodes.remove(name, by=None),
}


class Command(SiteCommand):
    """List the nodes, or say what is wanted of one."""

    help = "The machines that run models for this site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("act", nargs="?", default="list", choices=["list", *_ACTS])
        parser.add_argument("name", nargs="?")

    def handle(self, *args: Any, **options: Any) -> None:
        """List them, or act."""
        del args
        name = options["name"]
        if options["act"] == "list":
            for node in nodes.list_nodes():
                self.stdout.write(f"{node.name}  {node.state}  {node.address or '-'}  {node.heard}")
        elif not name or not _ACTS[options["act"]](name):
            raise CommandError(f"There is no node {name!r}." if name else "Name the node.")
