"""`ollamasite create-user NAME [--admin] [--password-stdin]`."""

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app.accounts import create_user
from ollamasite.commands import SiteCommand


class Command(SiteCommand):
    """Create an account."""

    help = "Create a user. Asks for the password, or reads it from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name")
        parser.add_argument("--admin", action="store_true", help="may do everything on this site")
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the user."""
        del args
        if options["password_stdin"]:
            password = sys.stdin.readline().rstrip("\n")
        else:
            password = _typed(f"Password for {options['name']}: ")
        try:
            validate_password(password)
            create_user(options["name"], password, is_admin=options["admin"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stderr.write(f"User {options['name']} created.")


def _typed(prompt: str) -> str:
    """Return what somebody types at the terminal. Raises CommandError where there is nobody."""
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for the password: use --password-stdin.")
    return getpass.getpass(prompt)
