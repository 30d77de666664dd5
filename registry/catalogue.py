"""The models there are, as pages show them: with whose they are, their licence, what one may do.

`registry.library` decides what one sees; this adds what a page tells beside it, in a number of
queries that does not grow with the models. Knows no engine, no HTTP and no row of the database.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from models_app import grants, model_places
from models_app.errors import ModelNotFound
from models_app.grants import ModelAccess
from models_app.model_places import ModelPlace
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal, Verb
from registry import library, licenses, manifests
from registry.errors import NotYourModel
from registry.library import ListedModel, ResolvedModel

_LICENSE_KEY: Final = "general.license"
_MAX_MARKS: Final = 4096
# What GGUF files say of their licence, by digest; a file that is named by its hash never changes.
_marks: Final[dict[str, str]] = {}


class Whose(enum.StrEnum):
    """Whose a model is, to the one who looks. The value is what the page's filter calls it."""

    MINE = "mine"
    TEAM = "team"
    LIBRARY = "library"
    OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the list. `license` is empty where none is known; `link` as of a Sheet."""

    listed: ListedModel
    link: str
    whose: Whose
    visibility: str
    is_pinned: bool
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All about a model that one may read. `access` is there for those who may change it.

    `link`: the name that means this model and no other, to the one who looks.
    `tags` are those of its repository that one may see, the newest first, itself among them, and
    `tag_links` such a name for each.
    """

    model: ResolvedModel
    model_id: int
    link: str
    whose: Whose
    place: ModelPlace
    verbs: frozenset[Verb]
    tags: Sequence[ListedModel]
    tag_links: Sequence[str]
    licenses: tuple[str, ...]
    access: ModelAccess | None

    @property
    def base_name(self) -> str:
        """The name without its tag."""
        return base_name(self.model.name)


def list_entries(principal: Principal) -> list[Entry]:
    """Return the models that the principal may see, the newest first."""
    listed = library.list_models(principal)
    places = model_places.places_of({model.model_id for model in listed})
    names = _licenses({model.digest for model in listed})
    taken = {model.name.lower() for model in listed}
    return [
        Entry(
            listed=model,
            link=_link(principal, model.name, taken),
            whose=_whose(principal, places[model.model_id]),
            visibility=places[model.model_id].visibility,
            is_pinned=places[model.model_id].is_pinned,
            license=names.get(model.digest, ""),
        )
        for model in listed
        if model.model_id in places  # gone in between
    ]


def read_sheet(principal: Principal, name: str) -> Sheet:
    """Return all about a model. Raises InvalidModelName, ModelNotFound."""
    model = library.resolve(principal, ModelName.parse(name), Verb.READ)
    whole = ModelName.parse(model.full_name)
    listed = library.list_models(principal, named=whole.model)
    tags = _tags_of(listed, model.name)
    own = next((tag for tag in tags if tag.name == model.name), None)
    if own is None:
        raise ModelNotFound(name)  # gone in between
    place = model_places.places_of({own.model_id})[own.model_id]
    verbs = model_places.verbs_of(principal, own.model_id, model.name.rpartition(":")[2])
    may_share = Verb.MANAGE in verbs and principal.is_for_account
    taken = {each.name.lower() for each in listed}
    return Sheet(
        model=model,
        model_id=own.model_id,
        link=_link(principal, model.name, taken),
        whose=_whose(principal, place),
        place=place,
        verbs=verbs,
        tags=tags,
        tag_links=[_link(principal, tag.name, taken) for tag in tags],
        licenses=_license_names(model),
        access=grants.read_access(whole, by=principal) if may_share else None,
    )


def require(sheet: Sheet, verb: Verb) -> None:
    """Raise NotYourModel for a model that one may see and not do this with."""
    if verb not in sheet.verbs:
        raise NotYourModel(f"you may not {library.DOING[verb]} the model '{sheet.model.name}'")


def base_name(name: str) -> str:
    """Return a display name without its tag."""
    return name.rpartition(":")[0]


def _tags_of(listed: Sequence[ListedModel], name: str) -> list[ListedModel]:
    wanted = base_name(name)
    own = [model for model in listed if base_name(model.name) == wanted and not model.is_alias]
    ids = {model.model_id for model in own if model.name == name}
    return [model for model in own if model.model_id in ids]


def _link(principal: Principal, name: str, taken: set[str]) -> str:
    # A bare name means one's own model first, where one has such a one.
    is_hidden = "/" not in name and f"{principal.namespace}/{name}".lower() in taken
    return f"{LIBRARY}/{name}" if is_hidden else name


def _whose(principal: Principal, place: ModelPlace) -> Whose:
    if place.is_in_library:
        return Whose.LIBRARY
    if place.owner_id == principal.user_id:
        return Whose.MINE
    if any(team.team_id == place.team_id for team in principal.teams):
        return Whose.TEAM
    return Whose.OTHERS


def _license_names(model: ResolvedModel) -> tuple[str, ...]:
    names = [licenses.short_name(text) for text in model.license]
    mark = model.gguf.get("metadata", {}).get(_LICENSE_KEY)
    if not names and isinstance(mark, str):
        names = [licenses.short_name(mark)]
    return tuple(name for name in names if name)


def _licenses(digests: Iterable[str]) -> dict[str, str]:
    """Return what the licences of manifests are called: of their own layers, else of the weights.

    Two queries; one where all weights are known from before.
    """
    types = (manifests.LICENSE, manifests.MODEL)
    found: dict[str, str] = {}
    weights: dict[str, str] = {}
    for manifest, media_type, digest in model_places.layers_of(list(digests), types):
        if media_type == manifests.MODEL:
            weights.setdefault(manifest, digest)
        elif manifest not in found and (name := licenses.name_of_file(digest)):
            found[manifest] = name
    unnamed = {manifest: digest for manifest, digest in weights.items() if manifest not in found}
    marks = _marks_of(set(unnamed.values()))
    return found | {
        manifest: licenses.short_name(marks[digest])
        for manifest, digest in unnamed.items()
        if marks.get(digest)
    }


def _marks_of(digests: set[str]) -> dict[str, str]:
    if len(_marks) > _MAX_MARKS:
        _marks.clear()
    known = dict(_marks)
    if new := digests - known.keys():
        found = model_places.gguf_texts(new, _LICENSE_KEY)
        _marks.update(found)
        known |= found
    return known
