"""`ollamasite alias NAME TARGET`, `ollamasite alias NAME --remove`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app.aliases import remove_alias, set_alias
from ollamasite.commands import SiteCommand


class Command(SiteCommand):
    """Set or remove an alias."""

    help = "Make a name stand for a model, for everybody who may see that model."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="what people ask for, such as gpt-4o-mini")
        parser.add_argument(
            "target", nargs="?", help="NAMESPACE/MODEL, or MODEL for one of the library"
        )
        parser.add_argument("--remove", action="store_true", help="the name stands for nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Set or remove it."""
        del args
        name, target = options["name"], options["target"]
        if options["remove"] == bool(target):
            raise CommandError("Name either the model that it stands for, or --remove.")
        try:
            if options["remove"]:
                remove_alias(name)
                self.stdout.write(f"{name} is no alias any longer")
            else:
                alias = set_alias(name, target)
                self.stdout.write(f"{alias.name} stands for {alias.target}")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
