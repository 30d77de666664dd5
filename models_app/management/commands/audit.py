"""`ollamasite audit verify [--head DIGEST]`, `ollamasite audit list [--actor … --action …]`."""

import json
import sys
from datetime import datetime
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from models_app.audit_log import AuditQuestion, AuditRecord, find_entries, verify
from ollamasite.commands import SiteCommand
from ollamasite.moments import parse_moment

_DIGEST_HEX: Final = 64


class Command(SiteCommand):
    """Look at the audit."""

    help = (
        "Look at what administrators and those who signed in have done, or verify that nothing of "
        "it was changed since. Ends with 1 where something was."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        does = parser.add_subparsers(dest="does", required=True)
        checking = does.add_parser("verify", help="walk through the whole chain of rows")
        checking.add_argument(
            "--head",
            metavar="DIGEST",
            default="",
            help="a digest that was kept, as verify prints it: rows behind it may not be gone",
        )
        listing = does.add_parser("list", help="tell the newest acts")
        listing.add_argument("--actor", default="", help="who did it")
        listing.add_argument("--action", default="", help="such as key.revoke, or key for all such")
        listing.add_argument("--search", default="", help="part of who, or of what it was done to")
        listing.add_argument("--since", metavar="2026-01-31", help="a day or a time")
        listing.add_argument("--limit", type=int, default=50)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        del args
        if options["does"] == "verify":
            self._verify(options["head"].strip().lower())
        else:
            self._list(options)

    def _verify(self, head: str) -> None:
        if head and (len(head) != _DIGEST_HEX or set(head) - set("0123456789abcdef")):
            raise CommandError(f"--head {head}: a digest is {_DIGEST_HEX} hexadecimal digits.")
        verdict = verify(head)
        if verdict.fault:
            self.stdout.write(f"{verdict.fault}; {verdict.rows} rows before that are right")
            sys.exit(1)
        self.stdout.write(f"all {verdict.rows} rows are as they were written")
        self.stdout.write(f"head {verdict.head or 'none'}")

    def _list(self, options: dict[str, Any]) -> None:
        question = AuditQuestion(
            actor=options["actor"],
            action=options["action"],
            text=options["search"],
            since=_moment(options["since"]),
        )
        for found in find_entries(question, limit=max(1, options["limit"])):
            self.stdout.write(_line(found))


def _line(found: AuditRecord) -> str:
    who = found.actor or "-"
    where = found.address or "-"
    details = json.dumps(found.details) if found.details else ""
    words = (f"{found.at:%Y-%m-%dT%H:%M:%SZ}", who, where, found.action, found.subject, details)
    return f"{found.sequence} " + " ".join(word for word in words if word)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise CommandError(f"--since {text}: write a day such as 2026-01-31, or a time.") from error
