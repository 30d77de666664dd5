"""`ollamasite team create|delete|add|remove|list …`."""

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app import directory, teams
from models_app.permissions import TeamRole
from ollamasite.commands import SiteCommand
from ollamasite.errors import ServiceError

_MOST_LISTED: Final = 10_000


class Command(SiteCommand):
    """Look after teams."""

    help = "Make, change and list teams."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the acts and their arguments."""
        acts = parser.add_subparsers(dest="act", required=True)
        create = acts.add_parser("create", help="a new team")
        create.add_argument("team")
        create.add_argument("--owner", default="", help="a user's name")
        create.add_argument("--description", default="")
        delete = acts.add_parser("delete", help="a team is no more; its people stay")
        delete.add_argument("team")
        delete.add_argument("--with-models", action="store_true", help="its models go too")
        add = acts.add_parser("add", help="somebody joins, or has another role")
        add.add_argument("team")
        add.add_argument("user")
        roles = [str(role) for role in TeamRole]
        add.add_argument("--role", default=str(TeamRole.MEMBER), choices=roles)
        remove = acts.add_parser("remove", help="somebody leaves")
        remove.add_argument("team")
        remove.add_argument("user")
        listing = acts.add_parser("list", help="all teams, or who is in one")
        listing.add_argument("team", nargs="?")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        del args
        try:
            told = _ACTS[options["act"]](options)
        except ServiceError as error:
            raise CommandError(error.message) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        if told:
            self.stdout.write(told)


def _create(options: dict[str, Any]) -> str:
    team = teams.create_team(
        options["team"], description=options["description"], owner=options["owner"], by=None
    )
    return f"team {team.name} created"


def _delete(options: dict[str, Any]) -> str:
    teams.delete_team(options["team"], with_models=options["with_models"], by=None)
    return f"team {options['team']} deleted"


def _add(options: dict[str, Any]) -> str:
    role = TeamRole(options["role"])
    teams.set_member(options["team"], options["user"], role, by=None)
    return f"{options['user']} is {role} of {options['team']}"


def _remove(options: dict[str, Any]) -> str:
    teams.remove_member(options["team"], options["user"], by=None)
    return f"{options['user']} has left {options['team']}"


def _list(options: dict[str, Any]) -> str:
    if options["team"]:
        members = directory.list_members(options["team"], limit=_MOST_LISTED, by=None)
        return "\n".join(f"{member.username}: {member.role}" for member in members)
    found = directory.list_teams(limit=_MOST_LISTED, by=None)
    return "\n".join(f"{team.name}: {team.members} members, {team.models} models" for team in found)


_ACTS: Final = {
    "create": _create,
    "delete": _delete,
    "add": _add,
    "remove": _remove,
    "list": _list,
}
