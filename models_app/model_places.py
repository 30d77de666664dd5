"""What the pages of models show beside names and sizes: whose a model is, what one may do with it.

Hands out frozen records, never rows. Knows nothing of files, formats and HTTP; that one may see a
model at all has been asked before (`models_app.selectors`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from django.db.models import BooleanField, ExpressionWrapper
from django.db.models.fields.json import KeyTextTransform

from models_app import model_access
from models_app.models import Blob, LanguageModel, Layer, Tag, Visibility
from models_app.names import LIBRARY
from models_app.permissions import Principal, Verb

# What may be asked of a model, in the words that people are shown.
VISIBILITIES: Final = tuple(str(choice) for choice in Visibility)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlace:
    """Where a model belongs. Its owner and its team are told by their keys."""

    owner_id: int | None
    team_id: int | None
    visibility: str
    is_pinned: bool
    is_in_library: bool
    is_mirror: bool


def places_of(model_ids: Collection[int]) -> dict[int, ModelPlace]:
    """Return where models belong, by their keys. One query."""
    rows = LanguageModel.objects.filter(pk__in=set(model_ids)).values_list(
        "pk", "owner_id", "team_id", "visibility", "is_pinned", "namespace", "is_mirror"
    )
    return {
        key: ModelPlace(
            owner_id=owner_id,
            team_id=team_id,
            visibility=visibility,
            is_pinned=is_pinned,
            is_in_library=namespace.lower() == LIBRARY and not is_mirror,
            is_mirror=is_mirror,
        )
        for key, owner_id, team_id, visibility, is_pinned, namespace, is_mirror in rows
    }


def verbs_of(principal: Principal, model_id: int, tag: str) -> frozenset[Verb]:
    """Return all that a principal may do with a tag of a model. One query."""
    asked = {
        f"may_{verb}": ExpressionWrapper(
            model_access.may(principal, verb), output_field=BooleanField()
        )
        for verb in Verb
    }
    tags = Tag.objects.filter(model_id=model_id, name__iexact=tag)
    row = tags.annotate(**asked).values(*asked).first() or {}
    return frozenset(verb for verb in Verb if row.get(f"may_{verb}"))


def layers_of(
    manifests: Collection[str], media_types: Collection[str]
) -> list[tuple[str, str, str]]:
    """Return manifest, media type and file of every layer of these types, in order. One query.

    Manifests and files are told by their digests, 64 hex.
    """
    found = Layer.objects.filter(manifest__digest__in=set(manifests), media_type__in=media_types)
    columns = found.values_list("manifest__digest", "media_type", "blob__digest")
    return list(columns.order_by("manifest_id", "position"))


def gguf_texts(digests: Collection[str], key: str) -> dict[str, str]:
    """Return what GGUF files say under a key of their metadata, by their digests. One query."""
    value = KeyTextTransform(key, KeyTextTransform("metadata", "gguf"))
    rows = Blob.objects.filter(digest__in=set(digests)).annotate(value=value)
    return {digest: text or "" for digest, text in rows.values_list("digest", "value")}


def chosen_visibility(text: str) -> Visibility:
    """Return what a form has chosen, one of VISIBILITIES."""
    return Visibility(text)
