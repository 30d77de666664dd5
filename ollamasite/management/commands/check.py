"""`ollamasite check [--deep] [--json]`; with `--deploy` or a tag, Django's own. See checkup."""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands.check import Command as DjangoCheck

from ollamasite.checkup.findings import Finding, Level
from ollamasite.checkup.running import Part, has_errors, run


class Command(DjangoCheck):
    """Look the site over."""

    help = (
        "Tell in sentences what is wrong with this site and what to do. Ends with 1 where "
        "something does not work. --deploy, --tag and app labels: Django's checks alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--deep", action="store_true", help="hash every file of the store too")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *app_labels: list[str], **options: Any) -> None:
        """Look, and print what was found."""
        if app_labels or options["deploy"] or options["tags"] or options["list_tags"]:
            super().handle(*app_labels, **options)
            return
        parts = []
        for part in run(is_deep=options["deep"]):
            parts.append(part)
            if not options["json"]:
                self._tell(part)
        if options["json"]:
            told = {"ok": not has_errors(parts), "parts": [asdict(part) for part in parts]}
            self.stdout.write(json.dumps(told, indent=2))
        if has_errors(parts):
            sys.exit(1)

    def _tell(self, part: Part) -> None:
        if part.is_well:
            self.stdout.write(f"{'ok':8} {part.name}")
        for finding in part.findings:
            style = {Level.ERROR: self.style.ERROR, Level.WARNING: self.style.WARNING}
            line = _line(part.name, finding)
            self.stdout.write(style.get(finding.level, str)(line))


def _line(part: str, finding: Finding) -> str:
    line = f"{finding.level:8} {part}: {finding.message}"
    return f"{line}\n{'':8} → {finding.advice}" if finding.advice else line
