"""`ollamasite serve-upstream ENGINE MODEL NAME`: an engine's model gets a name here."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError
from registry.upstreams import CAPABILITIES, DEFAULT_CAPABILITIES, NewServed, serve_model


class Command(SiteCommand):
    """Serve a model."""

    help = "Serve a model of an engine elsewhere under a name of this site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("engine", help="what the engine is called here")
        parser.add_argument("model", help="what the engine calls the model")
        parser.add_argument("name", help="what people ask for; without a namespace: the library's")
        parser.add_argument("--can", nargs="+", choices=CAPABILITIES, default=DEFAULT_CAPABILITIES)
        parser.add_argument(
            "--context", type=int, help="tokens; what the engine tells if not given"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve it."""
        del args
        new = NewServed(
            upstream=options["engine"],
            model=options["model"],
            name=options["name"],
            capabilities=tuple(options["can"]),
            context_length=options["context"],
        )
        try:
            name = serve_model(None, new)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{name.short} is served by {new.upstream}")
