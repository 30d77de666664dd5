"""`ollamasite set-model NAME [--cache-scope user|everyone] [--pin | --unpin]`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from models_app.models import CacheScope
from models_app.names import ModelName
from models_app.services import set_model
from ollamasite.errors import ServiceError


class Command(BaseCommand):
    """Change how a model is served."""

    help = "Change how a model is served, for all of its tags, and tell what holds now."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="NAMESPACE/MODEL, or MODEL for one of the library")
        parser.add_argument(
            "--cache-scope",
            choices=CacheScope.values,
            help="between whose requests computed prompts are shared; sharing lets people find "
            "out, by how fast an answer begins, whether another has asked the same",
        )
        pin = parser.add_mutually_exclusive_group()
        pin.add_argument(
            "--pin",
            dest="is_pinned",
            action="store_const",
            const=True,
            help="keep the model in memory once it is loaded",
        )
        pin.add_argument("--unpin", dest="is_pinned", action="store_const", const=False)

    def handle(self, *args: Any, **options: Any) -> None:
        """Change it."""
        del args
        scope = options["cache_scope"]
        try:
            model = set_model(
                ModelName.parse(options["name"]),
                cache_scope=None if scope is None else CacheScope(scope),
                is_pinned=options["is_pinned"],
            )
        except ServiceError as error:
            raise CommandError(error.message) from error
        pinned = "pinned" if model.is_pinned else "not pinned"
        self.stdout.write(f"{model}: cache scope {model.cache_scope}, {pinned}")
