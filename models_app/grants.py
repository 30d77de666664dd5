"""Who may see and do what with a model, and how it is served: looked at and changed, and audited.

For those who may MANAGE the model. Another registry's name stands for what that registry has:
showing one's own of that name to others is for those who look after the library. Knows no HTTP and
no tag.
"""

from dataclasses import dataclass
from typing import Final

from django.db.models import QuerySet
from django.db.models.functions import Lower

from models_app import audit, selectors
from models_app.authority import may_see_team
from models_app.errors import GranteeNotFound, InvalidAccess, ModelNotFound, NotYourModel
from models_app.model_access import GRANTED_VERBS
from models_app.models import CacheScope, LanguageModel, ModelGrant, Team, User, Visibility
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal, Verb, may_write_library
from models_app.site_names import findable
from ollamasite.errors import Forbidden

_MAX_GRANTS: Final = 500
# What a team is called that the asker may not know of: no team can have this name.
OTHER_TEAM: Final = "(another team)"


@dataclass(frozen=True, slots=True)
class Granted:
    """A verb given to a user or a team, by name: no two of them are alike."""

    to: str
    verb: Verb
    is_team: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAccess:
    """What holds for a model. `owner` and `team` are empty for none."""

    name: str  # in its display form, without a tag
    owner: str
    team: str
    visibility: Visibility
    cache_scope: CacheScope
    is_pinned: bool
    grants: tuple[Granted, ...]

    @property
    def using_users(self) -> list[str]:
        """The users who may use it besides those of the teams, and everybody if it is for all."""
        return sorted({self.owner, *self._granted(is_team=False)} - {""})

    @property
    def using_teams(self) -> list[str]:
        """The teams whose members may use it."""
        own = "" if self.visibility is Visibility.PRIVATE else self.team
        return sorted({own, *self._granted(is_team=True)} - {""})

    def _granted(self, *, is_team: bool) -> set[str]:
        using = [grant for grant in self.grants if Verb.USE in GRANTED_VERBS[grant.verb]]
        return {grant.to for grant in using if grant.is_team is is_team}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChange:
    """What to change; None and nothing leave what is there."""

    visibility: Visibility | None = None
    cache_scope: CacheScope | None = None
    is_pinned: bool | None = None
    add: tuple[Granted, ...] = ()
    remove: tuple[Granted, ...] = ()


def read_access(name: ModelName, *, by: Principal | None) -> ModelAccess:
    """Return what holds for a model. Raises ModelNotFound, NotYourModel."""
    return _access(_managed(name, by), by)


@audit.act()
def change_access(name: ModelName, change: AccessChange, *, by: Principal | None) -> ModelAccess:
    """Change all that is asked, or nothing, and return what holds then.

    `by` None is the site itself, to whom a bare name means the library. Raises ModelNotFound,
    NotYourModel, InvalidAccess, GranteeNotFound; Forbidden for a pin by who may not pin, and for
    keys with limits: what is given to others outlives the key that gives it.
    """
    if len(change.add) + len(change.remove) > _MAX_GRANTS:
        raise InvalidAccess(f"at most {_MAX_GRANTS} grants can be changed at once")
    managed = _managed(name, by)
    if by is not None and not by.is_for_account:
        raise Forbidden
    model = _held(managed.pk, name)
    _require_sharable(model, change, by)
    noted = [
        *_set_visibility(model, change.visibility),
        *_set_cache_scope(model, change.cache_scope),
        *_set_pinned(model, change.is_pinned, by),
    ]
    model.save(update_fields=["visibility", "cache_scope", "is_pinned"])
    noted += _remove(model, change.remove)
    noted += _add(model, change.add, by)
    for action, details in noted:
        audit.record(action, _display(model), by=by, **details)
    return _access(model, by)


@audit.act()
def set_pinned(model_id: int, *, is_pinned: bool, by: Principal | None) -> None:
    """Keep any model in memory once it is loaded, or no longer; for those who look after the site.

    Raises Forbidden, ModelNotFound.
    """
    if by is not None and not by.may_operate:
        raise Forbidden
    model = _held(model_id, ModelName(model=str(model_id)))
    noted = _set_pinned(model, is_pinned, by)
    model.save(update_fields=["is_pinned"])
    for action, details in noted:
        audit.record(action, _display(model), by=by, **details)


# ------------------------------------------------------------------ finding it


def _managed(name: ModelName, by: Principal | None) -> LanguageModel:
    """Return a model whose rights are one's to change. Raises ModelNotFound, NotYourModel."""
    if by is None:
        same = LanguageModel.objects.filter(
            host__iexact=name.host, namespace__iexact=name.namespace or LIBRARY
        )
        model = same.filter(name__iexact=name.model).order_by("is_mirror", "pk").first()
    else:
        model = selectors.find_model(by, name)
    if model is None:
        raise ModelNotFound(name.short)
    if by is not None and not selectors.models_for(by, Verb.MANAGE).filter(pk=model.pk).exists():
        raise NotYourModel(f"you may not change the model '{_display(model)}'")
    return model


def _held(model_id: int, name: ModelName) -> LanguageModel:
    rows = LanguageModel.objects.select_for_update(of=("self",)).select_related("owner", "team")
    model = rows.filter(pk=model_id).first()
    if model is None:
        raise ModelNotFound(name.short)
    return model


def _display(model: LanguageModel) -> str:
    name = ModelName(model=model.name, namespace=model.namespace, host=model.host)
    return name.short.rpartition(":")[0]


def _access(model: LanguageModel, by: Principal | None) -> ModelAccess:
    return ModelAccess(
        name=_display(model),
        owner=model.owner.username if model.owner else "",
        team=model.team.name if model.team else "",
        visibility=Visibility(model.visibility),
        cache_scope=CacheScope(model.cache_scope),
        is_pinned=model.is_pinned,
        grants=tuple(_granted(grant, model, by) for grant in _grants_of(model)),
    )


def _grants_of(model: LanguageModel) -> QuerySet[ModelGrant]:
    return ModelGrant.objects.filter(model=model).select_related("user", "team")


def _granted(grant: ModelGrant, model: LanguageModel, by: Principal | None) -> Granted:
    name = _name_of(grant)
    if grant.team is None:
        return Granted(name, Verb(grant.verb))
    is_known = _is_whose(model, by) or may_see_team(by, name)
    return Granted(name if is_known else OTHER_TEAM, Verb(grant.verb), is_team=True)


def _is_whose(model: LanguageModel, by: Principal | None) -> bool:
    """Whether it is somebody's own model, or of their team: what it was given for, they decide."""
    if by is None or model.owner_id == by.user_id:
        return True
    return any(place.team_id == model.team_id for place in by.teams)


def _name_of(grant: ModelGrant) -> str:
    to = grant.team.name if grant.team else grant.user.username if grant.user else ""
    return str(to)


# ------------------------------------------------------------------ changing it

_Noted = tuple[str, dict[str, str]]
# To whom, in lower case, and the verb.
_Key = tuple[str, str]


def _require_sharable(model: LanguageModel, change: AccessChange, by: Principal | None) -> None:
    """Raise InvalidAccess where others would be shown something under a name that is not ours."""
    is_shown = bool(change.add) or change.visibility not in {None, Visibility.PRIVATE}
    if model.is_mirror and is_shown and by is not None and not may_write_library(by):
        raise InvalidAccess(
            "this is another registry's name, under which everybody has a model of their own: "
            "copy it to a name in your namespace and share that"
        )


def _set_visibility(model: LanguageModel, wanted: Visibility | None) -> list[_Noted]:
    if wanted is None or wanted == model.visibility:
        return []
    if wanted is Visibility.TEAM and model.team_id is None:
        raise InvalidAccess("only a team's model has this visibility: grant it to a team instead")
    before, model.visibility = model.visibility, wanted
    return [("model.visibility", {"before": before, "after": str(wanted)})]


def _set_cache_scope(model: LanguageModel, wanted: CacheScope | None) -> list[_Noted]:
    if wanted is None or wanted == model.cache_scope:
        return []
    before, model.cache_scope = model.cache_scope, wanted
    return [("model.cache-scope", {"before": before, "after": str(wanted)})]


def _set_pinned(
    model: LanguageModel,
    wanted: bool | None,  # noqa: FBT001 - as the field of a change
    by: Principal | None,
) -> list[_Noted]:
    if wanted is None or wanted == model.is_pinned:
        return []
    # What is pinned takes memory from everybody; giving it back takes nothing from anybody.
    if wanted and by is not None and not by.may_operate:
        raise Forbidden("only those who look after the site keep models in memory")
    model.is_pinned = wanted
    return [("model.pin" if wanted else "model.unpin", {})]


def _add(model: LanguageModel, grants: tuple[Granted, ...], by: Principal | None) -> list[_Noted]:
    if any(grant.verb not in GRANTED_VERBS for grant in grants):
        raise InvalidAccess(f"what can be granted is {', '.join(GRANTED_VERBS)}")
    found = _grantees({grant.to.lower() for grant in grants}, by)
    had = {_key_of(grant): grant for grant in _grants_of(model)}
    new: dict[_Key, ModelGrant] = {}
    for grant in grants:
        grantee = found.get(grant.to.lower())
        if grantee is None:
            raise GranteeNotFound(grant.to)
        user, team = (grantee, None) if isinstance(grantee, User) else (None, grantee)
        key = (grant.to.lower(), str(grant.verb))
        new[key] = ModelGrant(model=model, user=user, team=team, verb=str(grant.verb))
    added = [row for key, row in new.items() if key not in had]
    if len(had) + len(added) > _MAX_GRANTS:
        raise InvalidAccess(f"a model may have {_MAX_GRANTS} grants at most: use a team")
    ModelGrant.objects.bulk_create(added)
    return [("model.grant", {"to": _name_of(row), "verb": row.verb}) for row in added]


def _grantees(names: set[str], by: Principal | None) -> dict[str, User | Team]:
    """Return to whom names in lower case give; teams of others are left out, as who is not there.

    Users and teams share their names, so there is one at most.
    """
    names = {findable(name) for name in names}
    lower = Lower("username")
    users = User.objects.alias(lower=lower).filter(lower__in=names, is_active=True)
    teams = Team.objects.alias(lower=Lower("name")).filter(lower__in=names)
    found: dict[str, User | Team] = {user.username.lower(): user for user in users}
    for team in teams:
        if by is None or by.is_operator or by.role_in(team.name) is not None:
            found[team.name.lower()] = team
    return found


def _remove(model: LanguageModel, grants: tuple[Granted, ...]) -> list[_Noted]:
    unwanted = {(grant.to.lower(), str(grant.verb)) for grant in grants}
    removed = [grant for grant in _grants_of(model) if _key_of(grant) in unwanted]
    ModelGrant.objects.filter(pk__in=[grant.pk for grant in removed]).delete()
    return [("model.revoke", {"to": _name_of(row), "verb": row.verb}) for row in removed]


def _key_of(grant: ModelGrant) -> _Key:
    return _name_of(grant).lower(), grant.verb
