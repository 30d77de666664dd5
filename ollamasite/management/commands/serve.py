"""`ollamasite serve`: everything on one machine. The work is done by `ollamasite.serve`."""

import sys
from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import CommandError

from ollamasite.commands import SiteCommand
from ollamasite.serve import serve
from ollamasite.start_checks import ServeError


class Command(SiteCommand):
    """Start Redis, inference, worker and web, keep them running, stop them in order."""

    help = "Run the whole site on this machine, in the foreground."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the options. The first three are taken by `ollamasite.cli`, before settings."""
        parser.add_argument("--host", default=settings.BIND_HOST, help="address to listen on")
        parser.add_argument("--port", default=settings.BIND_PORT, help="port to listen on")
        parser.add_argument("--data-dir", default=settings.DATA_DIR, help="where all data lies")
        parser.add_argument(
            "--no-starter-model", action="store_true", help="start without the small first model"
        )

    def handle(self, *, no_starter_model: bool, **_: object) -> None:
        """Run until SIGTERM or Ctrl-C."""
        try:
            serve(sys.stdout, has_starter_model=not no_starter_model)
        except ServeError as error:
            raise CommandError(str(error)) from error
