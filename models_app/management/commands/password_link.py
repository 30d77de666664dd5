"""`ollamasite password-link NAME`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app.people import password_link
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Let somebody choose a new password."""

    help = "Print the path of a page of this site on which a user chooses a new password, once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the link."""
        del args
        try:
            path = password_link(options["name"], by=None)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(path)
