"""`ollamasite personal-data export USER`, `ollamasite personal-data delete USER --yes`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app import audit, own_data
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Take along or forget what is known of a person."""

    help = (
        "Print all that this site knows of a user, as JSON, or delete the account with its models, "
        "keys, jobs and stored answers; what was counted stays, without the name."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        does = parser.add_subparsers(dest="does", required=True)
        exporting = does.add_parser("export", help="print a JSON document on standard output")
        exporting.add_argument("user")
        deleting = does.add_parser("delete", help="delete the account and all that is its own")
        deleting.add_argument("user")
        deleting.add_argument("--yes", action="store_true", help="this is meant")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        del args
        try:
            if options["does"] == "export":
                self._export(options["user"])
            else:
                self._delete(options["user"], is_meant=options["yes"])
        except ServiceError as error:
            raise CommandError(error.message) from error

    def _export(self, name: str) -> None:
        pieces = own_data.export(name)
        # What was said between somebody and a model is theirs: whoever reads it leaves a trace.
        audit.record("user.export", name, by=None)
        for piece in pieces:
            self.stdout.write(piece.decode(), ending="")

    def _delete(self, name: str, *, is_meant: bool) -> None:
        if not is_meant:
            raise CommandError(f"{name} and all of their models would be gone: say --yes.")
        own_data.forget(name, by=None)
        self.stderr.write(f"{name} is forgotten.")
