"""What a route asks of its caller about the thing that a request names: a team, a key, a model.

`models_app.policy` says which route asks what, by method; the services that do the work ask it,
for they know the thing; a test holds the two together. Pure; knows no row and no route.
"""

import enum
from dataclasses import dataclass
from typing import Final

from models_app.permissions import Principal, Scope, TeamRole, Verb

NOT_FOUND: Final = 404
FORBIDDEN: Final = 403


class Demand(enum.Enum):
    """What is asked. The value says it to people.

    Whoever may not know of the thing is told that there is none; whoever may, and may not do this
    with it, is refused.
    """

    NOTHING = ""
    ADMIN = "administrators"
    OWN = "whose it is"
    OWN_OR_ADMIN = "whose it is, administrators"
    OWN_OR_OPERATOR = "whose it is, operators"
    KEY = "the key itself, whose it is, maintainers of its team, administrators"
    KEY_MAKER = "the key itself, whose it is, maintainers of its team"
    KEY_NAME = "whose it is, maintainers of its team"
    USE = "whose it is, maintainers of the team that it counts to, auditors"
    SERVICE = "owners of the service account's team, administrators"
    IN_TEAM = "who is in the team, auditors"
    TEAM_OWNER = "owners of the team, administrators"
    INVITER = "owners of the team that it is for, administrators"
    INVITE = "owners of its team, administrators; auditors see it"
    MEMBER = "the member, owners of the team, administrators"
    MODEL_READ = "who may read the model"
    MODEL_USE = "who may use the model"
    MODEL_PULL = "who may pull the model"
    MODEL_PUSH = "who may push to the model"
    MODEL_MANAGE = "who may manage the model"
    MODEL_PIN = "operators who may use the model"


_VERBS: Final = {
    Demand.MODEL_READ: Verb.READ,
    Demand.MODEL_USE: Verb.USE,
    Demand.MODEL_PULL: Verb.PULL,
    Demand.MODEL_PUSH: Verb.PUSH,
    Demand.MODEL_MANAGE: Verb.MANAGE,
    Demand.MODEL_PIN: Verb.USE,
}
_OF_TEAM: Final = {
    Demand.TEAM_OWNER: TeamRole.OWNER,
    Demand.SERVICE: TeamRole.OWNER,
    Demand.INVITER: TeamRole.OWNER,
    Demand.MEMBER: TeamRole.OWNER,
}
_KEYS: Final = frozenset({Demand.KEY, Demand.KEY_MAKER, Demand.KEY_NAME})


@dataclass(frozen=True, slots=True)
class Thing:
    """What a request names, as far as it decides; `verbs` are the caller's with a model.

    `owner_id` is the user's whose it is, `team` the name of the team that it belongs to or is.
    """

    owner_id: int | None = None
    team: str = ""
    key_id: int | None = None
    verbs: frozenset[Verb] = frozenset()


def refusal(demand: Demand, principal: Principal, thing: Thing) -> int | None:
    """Return the status with which a caller is refused, whom the route's row admits; None: not."""
    if demand is Demand.NOTHING:
        return None
    is_admin = principal.may(Scope.ADMIN)
    if demand is Demand.ADMIN:
        return None if is_admin else FORBIDDEN
    if demand in _VERBS:
        is_enough = demand is not Demand.MODEL_PIN or principal.may_operate
        return _of_model(_VERBS[demand], thing) or (None if is_enough else FORBIDDEN)
    if demand is Demand.IN_TEAM:
        sees = principal.is_auditor or principal.role_in(thing.team) is not None
        return None if sees else NOT_FOUND
    if demand is Demand.INVITE:
        return None if is_admin else _of_invite(principal, thing)
    if demand in _OF_TEAM:
        is_self = demand is Demand.MEMBER and thing.owner_id == principal.user_id
        return None if is_admin or is_self else _of_team(_OF_TEAM[demand], principal, thing)
    if demand in _KEYS:
        return _of_key(demand, principal, thing)
    may_others = {
        Demand.OWN: False,
        Demand.USE: principal.is_auditor or principal.reaches_in(thing.team, TeamRole.MAINTAINER),
        Demand.OWN_OR_ADMIN: is_admin,
        Demand.OWN_OR_OPERATOR: principal.may_operate,
    }[demand]
    return None if may_others or thing.owner_id == principal.user_id else NOT_FOUND


def _of_model(verb: Verb, thing: Thing) -> int | None:
    # What is in another's namespace is not one's to write to, whether it is there or not.
    if Verb.READ not in thing.verbs and verb is not Verb.PUSH:
        return NOT_FOUND
    return None if verb in thing.verbs else FORBIDDEN


def _of_team(least: TeamRole, principal: Principal, thing: Thing) -> int | None:
    if thing.team and principal.role_in(thing.team) is None:
        return NOT_FOUND
    return None if principal.reaches_in(thing.team, least) else FORBIDDEN


def _of_invite(principal: Principal, thing: Thing) -> int | None:
    if thing.team and principal.reaches_in(thing.team, TeamRole.OWNER):
        return None
    sees = principal.is_auditor and (not thing.team or principal.role_in(thing.team) is not None)
    return FORBIDDEN if sees else NOT_FOUND


def _of_key(demand: Demand, principal: Principal, thing: Thing) -> int | None:
    is_itself = thing.key_id is not None and principal.key_id == thing.key_id
    looks_after = principal.is_for_account and (
        thing.owner_id == principal.user_id or principal.reaches_in(thing.team, TeamRole.MAINTAINER)
    )
    is_admin = principal.is_for_account and principal.may(Scope.ADMIN)
    if not (is_itself or looks_after or is_admin):
        return NOT_FOUND
    may = {
        Demand.KEY: True,
        Demand.KEY_MAKER: is_itself or looks_after,
        Demand.KEY_NAME: looks_after,
    }[demand]
    return None if may else FORBIDDEN
