"""`ollamasite invite [--team T] [--role R] [--expires 7d] [--note TEXT]`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app.invites import create_invite
from models_app.permissions import TeamRole
from ollamasite.commands import SiteCommand
from ollamasite.durations import parse_duration_s
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Invite somebody."""

    help = "Print the path of a page of this site on which one person makes an account, once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--team", default="", help="which they join by it")
        parser.add_argument(
            "--role",
            default=str(TeamRole.MEMBER),
            choices=[str(role) for role in TeamRole],
            help="what they are in the team",
        )
        parser.add_argument("--expires", metavar="7d", help="how long it is good, such as 12h")
        parser.add_argument("--note", default="", help="for whom it is")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the invite."""
        del args
        try:
            made = create_invite(
                team_name=options["team"],
                role=TeamRole(options["role"]),
                note=options["note"],
                kept_s=_lifetime_s(options["expires"]),
                by=None,
            )
        except ServiceError as error:
            raise CommandError(error.message) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(made.path)


def _lifetime_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration_s(text)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--expires {text}: write a duration such as 12h or 30d.") from error
