"""`ollamasite upstreams`: the engines elsewhere; enable, disable or remove one."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app import upstreams
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError
from registry.upstreams import look_now


class Command(SiteCommand):
    """List engines, or change one."""

    help = "List the engines elsewhere that serve models of this site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        acts = parser.add_mutually_exclusive_group()
        for act, what in (
            ("enable", "it serves"),
            ("disable", "it serves no longer; its models stay"),
            ("remove", "it is forgotten; its models stay and say so"),
            ("look", "ask it now whether it is up, and which models it has"),
        ):
            acts.add_argument(f"--{act}", metavar="NAME", help=what)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked, then list."""
        del args
        try:
            if name := options["enable"] or options["disable"]:
                upstreams.set_enabled(name, is_enabled=bool(options["enable"]), by=None)
            elif options["remove"]:
                upstreams.remove(options["remove"], by=None)
            elif options["look"]:
                look_now(None, options["look"])
        except ServiceError as error:
            raise CommandError(error.message) from error
        for line in upstreams.told_lines():
            self.stdout.write(line)
