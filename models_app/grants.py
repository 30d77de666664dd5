"""Who may see and do what with a model, and how it is served: looked at and changed, and audited.

For those who may MANAGE the model. Another registry's name stands for what that registry has:
showing one's own of that name to others is for those who look after the library. Knows no HTTP and
no tag.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction

from models_app import audit, selectors
from models_app.errors import GranteeNotFound, InvalidAccess, ModelNotFound, NotYourModel
from models_app.model_access import GRANTED_VERBS
from models_app.models import CacheScope, LanguageModel, ModelGrant, Team, User, Visibility
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal, Verb, may_write_library
from ollamasite.errors import Forbidden

_MAX_GRANTS: Final = 500


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
    return _access(_managed(name, by))


@transaction.atomic
def change_access(name: ModelName, change: AccessChange, *, by: Principal | None) -> ModelAccess:
    """Change all that is asked, or nothing, and return what holds then.

    `by` None is the site itself, to whom a bare name means the library. Raises ModelNotFound,
    NotYourModel, InvalidAccess, GranteeNotFound; Forbidden for a pin by who may not pin.
    """
    model = _held(_managed(name, by).pk, name)
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
    return _access(model)


@transaction.atomic
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


def _access(model: LanguageModel) -> ModelAccess:
    grants = ModelGrant.objects.filter(model=model).select_related("user", "team")
    return ModelAccess(
        name=_display(model),
        owner=model.owner.username if model.owner else "",
        team=model.team.name if model.team else "",
        visibility=Visibility(model.visibility),
        cache_scope=CacheScope(model.cache_scope),
        is_pinned=model.is_pinned,
        grants=tuple(_granted(grant) for grant in grants),
    )


def _granted(grant: ModelGrant) -> Granted:
    if grant.team is not None:
        return Granted(grant.team.name, Verb(grant.verb), is_team=True)
    return Granted(grant.user.username if grant.user else "", Verb(grant.verb))


# ------------------------------------------------------------------ changing it

_Noted = tuple[str, dict[str, str]]


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


def _add(model: LanguageModel, grants: Iterable[Granted], by: Principal | None) -> list[_Noted]:
    noted: list[_Noted] = []
    for grant in grants:
        if grant.verb not in GRANTED_VERBS:
            raise InvalidAccess(f"what can be granted is {', '.join(GRANTED_VERBS)}")
        _, is_new = ModelGrant.objects.get_or_create(
            model=model, verb=str(grant.verb), **_grantee(grant.to, by)
        )
        if is_new:
            noted.append(("model.grant", {"to": grant.to, "verb": str(grant.verb)}))
    if ModelGrant.objects.filter(model=model).count() > _MAX_GRANTS:
        raise InvalidAccess(f"a model may have {_MAX_GRANTS} grants at most: use a team")
    return noted


def _grantee(name: str, by: Principal | None) -> dict[str, Any]:
    """Return to whom a name gives. Raises GranteeNotFound, also for a team of others."""
    user = User.objects.filter(username__iexact=name, is_active=True).first()
    if user is not None:
        return {"user": user, "team": None}
    team = Team.objects.filter(name__iexact=name).first()
    knows = by is None or by.is_operator or by.role_in(name) is not None
    if team is None or not knows:
        raise GranteeNotFound(name)
    return {"user": None, "team": team}


def _remove(model: LanguageModel, grants: Iterable[Granted]) -> list[_Noted]:
    noted: list[_Noted] = []
    for grant in grants:
        rows = ModelGrant.objects.filter(model=model, verb=str(grant.verb))
        given = rows.filter(user__username__iexact=grant.to) | rows.filter(
            team__name__iexact=grant.to
        )
        keys = list(given.values_list("pk", flat=True))
        if ModelGrant.objects.filter(pk__in=keys).delete()[0]:
            noted.append(("model.revoke", {"to": grant.to, "verb": str(grant.verb)}))
    return noted
