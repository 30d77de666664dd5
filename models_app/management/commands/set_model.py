"""`ollamasite set-model NAME`: how a model is served, and who may see and use it.

ollamasite set-model smollm2 --cache-scope everyone --pin
ollamasite set-model alice/tuned --visibility everyone --grant bob=push --revoke vision=use
"""

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from models_app.grants import AccessChange, Granted, ModelAccess, change_access
from models_app.model_access import GRANTED_VERBS
from models_app.models import CacheScope, Visibility
from models_app.names import ModelName
from models_app.permissions import Verb
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError


class Command(SiteCommand):
    """Change how a model is served and who may use it."""

    help = "Change how a model is served and who may use it, and tell what holds now."

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
        parser.add_argument(
            "--visibility",
            choices=Visibility.values,
            help="who may see and use it: its owner; the team whose it is; everyone",
        )
        who = f"NAME of a user or a team, and one of {', '.join(GRANTED_VERBS)}"
        for option in ("--grant", "--revoke"):
            parser.add_argument(option, action="append", default=[], metavar="NAME=VERB", help=who)

    def handle(self, *args: Any, **options: Any) -> None:
        """Change it."""
        del args
        scope, visibility = options["cache_scope"], options["visibility"]
        change = AccessChange(
            visibility=None if visibility is None else Visibility(visibility),
            cache_scope=None if scope is None else CacheScope(scope),
            is_pinned=options["is_pinned"],
            add=tuple(_granted(options["grant"])),
            remove=tuple(_granted(options["revoke"])),
        )
        try:
            access = change_access(ModelName.parse(options["name"]), change, by=None)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(_told(access))


def _granted(texts: Iterable[str]) -> Iterable[Granted]:
    """Yield what is written as NAME=VERB. Raises CommandError."""
    for text in texts:
        name, _, verb = text.rpartition("=")
        if not name or verb not in list(GRANTED_VERBS):
            raise CommandError(f"{text!r} is not NAME=VERB with one of {', '.join(GRANTED_VERBS)}")
        yield Granted(name, Verb(verb))


def _told(access: ModelAccess) -> str:
    parts = [
        f"cache scope {access.cache_scope}",
        "pinned" if access.is_pinned else "not pinned",
        {
            Visibility.PRIVATE: "private",
            Visibility.TEAM: f"visible to the team {access.team}",
            Visibility.EVERYONE: "visible to everyone",
        }[access.visibility],
        *(f"{grant.to} may {grant.verb}" for grant in access.grants),
    ]
    return f"{access.name}: {', '.join(parts)}"
