"""`ollamasite add-upstream NAME URL`: an engine elsewhere that serves models of this site."""

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app.upstreams import KINDS, UpstreamSettings
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError
from registry.upstreams import add_upstream, look_now


class Command(SiteCommand):
    """Add an engine and look at it."""

    help = "Add an OpenAI-compatible engine, such as vLLM, that serves models of this site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="what it is called here")
        parser.add_argument("url", help="where its routes begin, such as http://gpu1:8000/v1")
        parser.add_argument("--kind", choices=KINDS, default="openai", help="which program it is")
        parser.add_argument("--key-stdin", action="store_true", help="read its key, one line")
        parser.add_argument("--concurrency", type=int, default=8, help="requests at a time (8)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Add it."""
        del args
        settings = UpstreamSettings(
            url=options["url"],
            kind=options["kind"],
            concurrency=options["concurrency"],
            key=_read_key() if options["key_stdin"] else None,
        )
        try:
            add_upstream(None, options["name"], settings)
            look = look_now(None, options["name"])
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"added {options['name']}")
        if look.problem:
            self.stdout.write(f"it is not up: {look.problem}")
        for offer in look.offers:
            self.stdout.write(f"  it has {offer['id']}")


def _read_key() -> str:
    return getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
