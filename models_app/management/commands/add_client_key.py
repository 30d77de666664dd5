"""`ollamasite add-client-key USER [--name N] (KEY | --file PATH | -)`."""

import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from models_app.client_keys import add_client_key
from models_app.models import User


class Command(BaseCommand):
    """Register an ed25519 public key."""

    help = "Have requests signed with an ed25519 key, as the ollama CLI signs them, be a user's."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("user")
        parser.add_argument(
            "key",
            nargs="*",
            metavar="KEY",
            help="the line of ~/.ollama/id_ed25519.pub, or - to read it from standard input",
        )
        parser.add_argument("--file", metavar="PATH", help="read the line from a file")
        parser.add_argument("--name", default="", help="what the key is called; default: its own")

    def handle(self, *args: Any, **options: Any) -> None:
        """Register the key."""
        del args
        try:
            owner = User.objects.get(username__iexact=options["user"])
            key = add_client_key(owner, _text(options["key"], options["file"]), options["name"])
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['user']!r}.") from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{owner.username} is known by the key {key.name}")


def _text(words: list[str], file: str | None) -> str:
    """Return what is said to be a key. Raises CommandError."""
    if bool(words) == bool(file):
        raise CommandError("Give either the key, - for standard input, or --file.")
    if words == ["-"]:
        return sys.stdin.readline()
    if file is None:
        return " ".join(words)
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
