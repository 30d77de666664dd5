"""`ollamasite create-key USER [--name N] [--scope S ...] [--model P ...] [--expires 30d] …`."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.permissions import Scope
from ollamasite.commands import SiteCommand
from ollamasite.durations import parse_duration_s
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Create an API key."""

    help = "Create an API key and print its secret, alone, on standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("user")
        parser.add_argument("--name", default="command line")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            choices=[str(scope) for scope in Scope],
            help="what the key may be used for; may be given several times; default: everything "
            "that the user may do",
        )
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="PATTERN",
            help="models that the key may be used for, such as llama* or alice/*; several times",
        )
        parser.add_argument(
            "--network",
            action="append",
            default=[],
            metavar="CIDR",
            help="networks that the key may be used from, such as 10.0.0.0/8; several times",
        )
        parser.add_argument("--team", default="", help="team of the user that its use counts to")
        parser.add_argument("--expires", metavar="30d", help="lifetime, such as 12h or 30d")

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the key."""
        del args
        try:
            owner = User.objects.get(username__iexact=options["user"])
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['user']!r}.") from error
        rules = KeyRules(
            scopes=tuple(Scope(scope) for scope in options["scope"]),
            models=tuple(options["model"]),
            networks=tuple(options["network"]),
            expires_at=_expiry(options["expires"]),
            team=options["team"],
        )
        try:
            _, secret = create_key(owner, options["name"], rules)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(secret)


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return timezone.now() + timedelta(seconds=parse_duration_s(text))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--expires {text}: write a duration such as 12h or 30d.") from error
