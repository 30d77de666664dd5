"""`ollamasite deactivate-user NAME [--activate]`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app import people
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Close an account, or open it again."""

    help = "End an account's use at once: its keys, sessions, open streams and jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name")
        parser.add_argument(
            "--activate",
            action="store_true",
            help="let the person in again; keys that have ended stay ended",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Close or open it."""
        del args
        name = options["name"]
        act, word = (people.deactivate, "deactivated")
        if options["activate"]:
            act, word = (people.activate, "active again")
        try:
            act(name, by=None)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{name} is {word}")
