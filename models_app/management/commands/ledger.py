"""`ollamasite ledger export --csv|--json [--since … --until … --user … --group-by …]`."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser

from models_app import usage
from models_app.ledger_export import Exported, Form, pieces
from models_app.usage import GROUPS, RequestRecord, Usage, UsageQuestion
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError
from ollamasite.moments import parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Command(SiteCommand):
    """Look at the ledger."""

    help = "Write what was used to the output: a line for each request, or sums of groups."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        does = parser.add_subparsers(dest="does", required=True)
        exporting = does.add_parser("export", help="write all requests, or sums with --group-by")
        form = exporting.add_mutually_exclusive_group()
        for known in Form:
            form.add_argument(f"--{known}", dest="form", action="store_const", const=known)
        exporting.add_argument("--since", metavar="2026-01-31", help="a day or a time")
        exporting.add_argument(
            "--until", metavar="2026-02-28", help="a day or a time, not included"
        )
        exporting.add_argument("--user", default="", help="of this user only")
        exporting.add_argument("--team", default="", help="what counts to this team only")
        exporting.add_argument("--key", default="", help="of the key with this prefix only")
        exporting.add_argument("--model", default="", help="of this model only, as lists name it")
        exporting.add_argument("--group-by", choices=GROUPS, help="sums in place of requests")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write it."""
        del args
        question = UsageQuestion(
            since=_moment("--since", options["since"]),
            until=_moment("--until", options["until"]),
            team=options["team"],
            user=options["user"],
            key=options["key"],
            model=options["model"],
        )
        try:
            self._write(question, options["group_by"], options["form"] or Form.CSV)
        except ServiceError as error:
            raise CommandError(error.message) from error

    def _write(self, question: UsageQuestion, group_by: str | None, form: Form) -> None:
        columns: type[Exported] = RequestRecord
        pages: Iterable[Sequence[Exported]] = usage.all_pages(None, question)
        if group_by is not None:
            columns, pages = Usage, [usage.sums(None, question, group_by=group_by)]
        for piece in pieces(pages, form, columns):
            self.stdout.write(piece.decode(), ending="")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise CommandError(
            f"{option} {text}: write a day such as 2026-01-31, or a time."
        ) from error
