"""`ollamasite verify [--set-aside]`."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from models_app import audit
from ollamasite.commands import SiteCommand
from registry.verification import verify_store


class Command(SiteCommand):
    """Read the whole store again."""

    help = (
        "Hash every file of the store again and tell which are damaged or missing and which "
        "models need them. Ends with 1 where something is wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "--set-aside",
            action="store_true",
            help="rename damaged files, so that a pull or an upload brings them anew",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify it."""
        del args
        audit.record("store.verify", by=None, set_aside=options["set_aside"])
        damaged = verify_store(set_aside=options["set_aside"])
        for found in damaged:
            self.stdout.write(str(found))
        if damaged:
            sys.exit(1)
        self.stdout.write("every file is what it should be")
