"""Who may do what with a model: the one place that decides it, in Python and as a query.

`allows` and `may` say the same of a model's facts and of its row; a test holds them to each other.

A verb is given by any of:
- one's own model: everything;
- a team's model, by one's role there: a viewer READ; a member USE and PULL too; a maintainer and an
  owner everything. One that is private is the maintainers' and owners' alone;
- the library: whoever looks after it, everything;
- visibility EVERYONE: READ, USE and PULL, as far as the lists of one's teams, or the site's, let
  one (`Principal.allowed_models`; what is given in another way they do not narrow);
- a grant to oneself, or to a team that one is a member of; to its viewers that gives READ alone.
A key's patterns of names narrow all of it. Whoever may do anything with a model may READ it. Being
an administrator opens nobody's private models. What a credential is for besides (scopes) is
decided at the routes. Knows nothing of names that have no model, of tags and of HTTP.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from django.db.models import Q

from models_app.models import ModelGrant, Visibility
from models_app.name_patterns import NamePattern, is_plain, matches_any, parse_pattern, regex_of
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal, TeamRole, Verb, may_write_library

# What visibility EVERYONE gives to everybody.
SHARED_VERBS: Final = frozenset({Verb.READ, Verb.USE, Verb.PULL})
# What each verb that is granted gives; nothing else can be granted.
GRANTED_VERBS: Final[Mapping[Verb, frozenset[Verb]]] = {
    Verb.USE: frozenset({Verb.READ, Verb.USE}),
    Verb.PULL: frozenset({Verb.READ, Verb.PULL}),
    Verb.PUSH: frozenset({Verb.READ, Verb.PULL, Verb.PUSH}),
    Verb.MANAGE: frozenset(Verb),
}
# From which role on a verb is given in a team's own models.
_ROLES: Final[Mapping[Verb, TeamRole]] = {
    Verb.READ: TeamRole.VIEWER,
    Verb.USE: TeamRole.MEMBER,
    Verb.PULL: TeamRole.MEMBER,
    Verb.PUSH: TeamRole.MAINTAINER,
    Verb.MANAGE: TeamRole.MAINTAINER,
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A verb given to a user or to a team; the other one is None."""

    verb: Verb
    user_id: int | None = None
    team_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What decides about a model. `is_whole`: it is asked for with all of its tags."""

    name: ModelName
    owner_id: int | None
    team_id: int | None
    visibility: str
    is_mirror: bool = False
    grants: tuple[Grant, ...] = ()
    is_whole: bool = False

    @property
    def is_in_library(self) -> bool:
        """Whether it is one of the site's shared models."""
        return not self.is_mirror and (self.name.namespace or LIBRARY).lower() == LIBRARY


def allows(principal: Principal, facts: ModelFacts, verb: Verb) -> bool:
    """Whether somebody may do this with a model."""
    return is_within_key(principal, facts.name, is_whole=facts.is_whole) and (
        _is_by_place(principal, facts, verb)
        or _is_shared(principal, facts, verb)
        or any(_is_granted(principal, grant, verb) for grant in facts.grants)
    )


def may(principal: Principal, verb: Verb, *, model: str = "model__", tag: str = "name") -> Q:
    """Return the condition that a row's model is one with which somebody may do this.

    `model` leads from the row to its model (empty: it is one), `tag` to the name of the tag that is
    asked for (empty: all of them).
    """
    grants = _grants(principal, verb)
    given = _own(principal, model) | _of_teams(principal, verb, model)
    given |= Q(**{f"{model}pk__in": ModelGrant.objects.filter(grants).values("model")})
    if may_write_library(principal):
        given |= _in_library(model)
    if verb in SHARED_VERBS:
        shared = Q(**{f"{model}visibility": Visibility.EVERYONE})
        if principal.allowed_models is not None:
            shared &= _like_any(principal.allowed_models, model, tag)
        given |= shared
    if principal.model_patterns:
        given &= _like_any(principal.model_patterns, model, tag)
    return given


def may_write_namespace(principal: Principal, namespace: str) -> bool:
    """Whether a namespace is one's own to write to, whatever the name in it."""
    if namespace.lower() == LIBRARY:
        return may_write_library(principal)
    is_own = namespace.lower() == principal.namespace.lower()
    return is_own or principal.reaches_in(namespace, TeamRole.MAINTAINER)


def is_within_key(principal: Principal, name: ModelName, *, is_whole: bool = False) -> bool:
    """Whether the credential is for models of this name at all; `is_whole`: with any tag."""
    patterns = principal.model_patterns
    return not patterns or matches_any(patterns, name, is_whole=is_whole)


# ------------------------------------------------------------------ by facts


def _is_by_place(principal: Principal, facts: ModelFacts, verb: Verb) -> bool:
    if facts.is_in_library:
        return may_write_library(principal)
    if facts.owner_id == principal.user_id:
        return True
    role = next((place.role for place in principal.teams if place.team_id == facts.team_id), None)
    return role is not None and role.reaches(_needed_role(verb, facts.visibility))


def _is_shared(principal: Principal, facts: ModelFacts, verb: Verb) -> bool:
    if facts.visibility != Visibility.EVERYONE or verb not in SHARED_VERBS:
        return False
    allowed = principal.allowed_models
    return allowed is None or matches_any(allowed, facts.name, is_whole=facts.is_whole)


def _is_granted(principal: Principal, grant: Grant, verb: Verb) -> bool:
    if verb not in GRANTED_VERBS.get(grant.verb, ()):
        return False
    if grant.user_id is not None:
        return grant.user_id == principal.user_id
    role = next((place.role for place in principal.teams if place.team_id == grant.team_id), None)
    return role is not None and (verb is Verb.READ or role.reaches(TeamRole.MEMBER))


def _needed_role(verb: Verb, visibility: str) -> TeamRole:
    return TeamRole.MAINTAINER if visibility == Visibility.PRIVATE else _ROLES[verb]


# ------------------------------------------------------------------ as a query


def _in_library(model: str) -> Q:
    return Q(**{f"{model}namespace__iexact": LIBRARY, f"{model}is_mirror": False})


def _own(principal: Principal, model: str) -> Q:
    return Q(**{f"{model}owner_id": principal.user_id}) & ~_in_library(model)


def _of_teams(principal: Principal, verb: Verb, model: str) -> Q:
    known = _teams_from(principal, _ROLES[verb])
    hidden = _teams_from(principal, TeamRole.MAINTAINER)
    shown = ~Q(**{f"{model}visibility": Visibility.PRIVATE})
    given = Q(**{f"{model}team_id__in": hidden}) | (Q(**{f"{model}team_id__in": known}) & shown)
    return given & ~_in_library(model)


def _teams_from(principal: Principal, role: TeamRole) -> list[int]:
    return [place.team_id for place in principal.teams if place.role.reaches(role)]


def _grants(principal: Principal, verb: Verb) -> Q:
    """Return the condition of the grants that give somebody this."""
    lowest = TeamRole.VIEWER if verb is Verb.READ else TeamRole.MEMBER
    to_them = Q(user_id=principal.user_id) | Q(team_id__in=_teams_from(principal, lowest))
    giving = [str(granted) for granted, gives in GRANTED_VERBS.items() if verb in gives]
    return to_them & Q(verb__in=giving)


def _like_any(texts: Iterable[str], model: str, tag: str) -> Q:
    found = Q(pk__in=[])
    for pattern in filter(None, map(parse_pattern, texts)):
        if tag or not pattern.tag:
            found |= _like(pattern, model, tag)
    return found


def _like(pattern: NamePattern, model: str, tag: str) -> Q:
    fields = {"host": pattern.host, "namespace": pattern.namespace, "name": pattern.model}
    parts = {f"{model}{field}": part for field, part in fields.items()}
    if pattern.tag:
        parts[tag] = pattern.tag
    condition = ~Q(pk__in=[])  # an empty one would vanish where it meets others
    for field, part in parts.items():
        if is_plain(part):
            condition &= Q(**{f"{field}__iexact": part})
        elif part != "*":
            condition &= Q(**{f"{field}__iregex": regex_of(part)})
    return condition
