"""`ollamasite add-client-key USER [--name N] (KEY | -)`."""

import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app.client_keys import add_client_key
from models_app.models import User
from ollamasite.commands import SiteCommand


class Command(SiteCommand):
    """Register an ed25519 public key."""

    help = "Have requests signed with an ed25519 key, as the ollama CLI signs them, be a user's."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("user")
        # Not "*": argparse would take none where an option stands between user and key.
        parser.add_argument(
            "key",
            nargs="+",
            metavar="KEY",
            help="the line of ~/.ollama/id_ed25519.pub, or - to read it from standard input",
        )
        parser.add_argument("--name", default="", help="what the key is called; default: its own")

    def handle(self, *args: Any, **options: Any) -> None:
        """Register the key."""
        del args
        try:
            owner = User.objects.get(username__iexact=options["user"])
            key = add_client_key(owner, _text(options["key"]), options["name"])
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['user']!r}.") from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{owner.username} is known by the key {key.name}")


def _text(words: list[str]) -> str:
    """Return what is said to be a key."""
    return sys.stdin.readline() if words == ["-"] else " ".join(words)
