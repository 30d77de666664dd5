"""`ollamasite node-token NAME`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app import nodes
from ollamasite.commands import SiteCommand


class Command(SiteCommand):
    """Let a machine join as a node."""

    help = "Let a machine join as a node of this name; prints its token, alone, once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="what the node is called, such as gpu1")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token."""
        del args
        try:
            self.stdout.write(nodes.allow(options["name"], by=None))
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
