"""Namespaces: what each holds, how much it may hold, and which of its tags stay as they are.

Equal files count once in a namespace and once in every other that has them too: what one names,
one pays for, so that nobody's space depends on what others delete. Knows nothing of files on a
disk, formats and HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from django.core.exceptions import ValidationError
from django.db.models import Max, Q, QuerySet, Sum
from django.db.models.functions import Length

from models_app import audit
from models_app.authority import require_operator
from models_app.errors import TagIsImmutable
from models_app.models import (
    Blob,
    LanguageModel,
    Layer,
    Manifest,
    Namespace,
    RepositoryBlob,
    RepositoryManifest,
    Tag,
    Upload,
    User,
)
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from models_app.selectors import is_mirror_name

_MAX_PATTERN_CHARS: Final = 400
_MAX_QUOTA_BYTES: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRules:
    """What holds in a namespace; None: the site's quota, or no limit to the number of tags."""

    name: str
    quota_bytes: int | None
    immutable_tags: str
    kept_tags: int | None


def rules_of(namespace: str) -> NamespaceRules:
    """Return what has been decided for a namespace, in whatever case it is written."""
    row = Namespace.objects.filter(name__iexact=namespace).first()
    if row is None:
        return NamespaceRules(name=namespace, quota_bytes=None, immutable_tags="", kept_tags=None)
    return NamespaceRules(
        name=row.name,
        quota_bytes=row.quota_bytes,
        immutable_tags=row.immutable_tags,
        kept_tags=row.kept_tags,
    )


def check_rules(rules: NamespaceRules) -> None:
    """Raise ValidationError, with a sentence, for rules that cannot hold."""
    if not rules.name or is_mirror_name(ModelName(model="any", namespace=rules.name)):
        raise ValidationError(
            f"There is no namespace '{rules.name}': it is no user's and no team's."
        )
    if rules.kept_tags == 0:
        raise ValidationError("At least one tag of each model has to stay.")
    if len(_patterns(rules)) > _MAX_PATTERN_CHARS:
        raise ValidationError(f"The patterns may have {_MAX_PATTERN_CHARS} characters together.")
    if (rules.quota_bytes or 0) > _MAX_QUOTA_BYTES:
        raise ValidationError("The quota is larger than any disk.")


@audit.act()
def set_rules(rules: NamespaceRules, *, by: Principal | None = None) -> Namespace:
    """Decide for a namespace and return its row.

    Raises Forbidden, or ValidationError with a sentence.
    """
    require_operator(by)
    check_rules(rules)
    values = {
        "quota_bytes": rules.quota_bytes,
        "immutable_tags": _patterns(rules),
        "kept_tags": rules.kept_tags,
    }
    row, _ = Namespace.objects.update_or_create(
        name__iexact=rules.name, defaults=values, create_defaults=values | {"name": rules.name}
    )
    audit.record("namespace.set", row.name, by=by, **values)
    return row


@audit.act()
def remove_rules(namespace: str, *, by: Principal | None = None) -> None:
    """Have the site's rules hold in a namespace again. Raises Forbidden."""
    require_operator(by)
    deleted, _ = Namespace.objects.filter(name__iexact=namespace).delete()
    if deleted:
        audit.record("namespace.remove", namespace, by=by)


def _patterns(rules: NamespaceRules) -> str:
    return " ".join(rules.immutable_tags.split())


# ------------------------------------------------------------------ bytes


def charged_namespace(name: ModelName, owner_id: int | None) -> str | None:
    """Return whose bytes a model's are: its namespace, of a mirror that of its owner.

    None: nobody's, as with what the site itself has of other registries.
    """
    if not is_mirror_name(name):
        return name.namespace or LIBRARY
    if owner_id is None:
        return None
    return User.objects.filter(pk=owner_id).values_list("username", flat=True).first()


def quota_of(namespace: str, *, default: int | None) -> int | None:
    """Return how many bytes a namespace may hold, or None where there is no limit."""
    quota_bytes = rules_of(namespace).quota_bytes
    return default if quota_bytes is None else quota_bytes


def stored_bytes(namespace: str) -> int:
    """Return how many bytes a namespace holds; what several of its models have counts once.

    That is what its models' tags and what was pushed to it name, mirrors of its user among it,
    the manifests themselves, and what its user has uploaded that is no layer of theirs yet.
    """
    layers = _layers_of(namespace)
    in_models = layers.aggregate(sum=Sum("size_bytes"))["sum"] or 0
    # They are rows and no files, but as large as somebody makes them, and need no file at all.
    bodies = Manifest.objects.filter(_is_manifest_of(namespace))
    in_manifests = bodies.aggregate(sum=Sum(Length("body")))["sum"] or 0
    return in_models + in_manifests + sum(_loose_files(namespace, without=layers).values())


def missing_bytes(namespace: str, sizes: Mapping[str, int]) -> int:
    """Return how many bytes of these files, by digest (64 hex), a namespace does not hold yet."""
    layers = _layers_of(namespace).filter(digest__in=sizes)
    held = set(layers.values_list("digest", flat=True)) | _loose_files(namespace).keys()
    return sum(size_bytes for digest, size_bytes in sizes.items() if digest not in held)


def _layers_of(namespace: str) -> QuerySet[Blob]:
    """Return the files of all manifests of a namespace, each once."""
    layers = Layer.objects.filter(_is_manifest_of(namespace, "manifest"))
    return Blob.objects.filter(pk__in=layers.values("blob"))


def _is_manifest_of(namespace: str, field: str = "pk") -> Q:
    models = _models_of(namespace)
    tagged = Tag.objects.filter(model__in=models).values("manifest")
    pushed = RepositoryManifest.objects.filter(model__in=models).values("manifest")
    return Q(**{f"{field}__in": tagged}) | Q(**{f"{field}__in": pushed})


def _loose_files(namespace: str, *, without: QuerySet[Blob] | None = None) -> dict[str, int]:
    """Return the sizes of what has been brought and is no layer yet, by digest."""
    pushed = RepositoryBlob.objects.filter(model__in=_models_of(namespace))
    uploads = Upload.objects.filter(user__username__iexact=namespace)
    if without is not None:
        layers = without.values("digest")
        pushed, uploads = pushed.exclude(digest__in=layers), uploads.exclude(digest__in=layers)
    sizes = dict(pushed.values_list("digest").annotate(size=Max("size_bytes")))
    if namespace.lower() != LIBRARY:
        sizes |= dict(uploads.values_list("digest", "size_bytes"))
    return sizes


def _models_of(namespace: str) -> QuerySet[LanguageModel]:
    """Return a namespace's models; mirrors are in the namespace of their owner."""
    own = Q(is_mirror=False, namespace__iexact=namespace)
    mirrored = Q(is_mirror=True, owner__username__iexact=namespace)
    return LanguageModel.objects.filter(own | mirrored)


# ------------------------------------------------------------------ tags


def is_immutable(namespace: str, tag: str) -> bool:
    """Whether a tag of this name, once it is there, stays what it is."""
    return matches_any(rules_of(namespace).immutable_tags, tag)


def matches_any(patterns: str, tag: str) -> bool:
    """Whether a tag, in whatever case, is like one of the patterns, which have blanks between."""
    return any(fnmatchcase(tag.lower(), pattern) for pattern in patterns.lower().split())


def require_mutable(model: LanguageModel, tag: str) -> None:
    """Raise TagIsImmutable where an existing tag of the model may not be moved or deleted.

    The model's row is locked by the caller, so that of two who write the tag first one is first.
    Mirrors follow the registry that they come from.
    """
    if not model.is_mirror and is_immutable(model.namespace, tag):
        raise TagIsImmutable(tag)
