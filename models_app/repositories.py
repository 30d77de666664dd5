"""Repositories of the registry: what was pushed under a model's name.

A repository is a model's row; who sees it is decided in `selectors`, who may write to it has been
decided before. Knows nothing of files, formats and HTTP.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.utils import timezone

from models_app import model_access
from models_app.errors import ModelNotFound
from models_app.models import LanguageModel, Layer, RepositoryBlob
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal, Verb
from models_app.selectors import models_for


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """A repository: its row's key and its name as it was first written."""

    model_id: int
    namespace: str
    name: str
    is_mirror: bool = False
    is_allowed: bool = True  # who asked may do what they asked for; they may see it in any case

    @property
    def path(self) -> str:
        """`<namespace>/<model>`."""
        return f"{self.namespace}/{self.name}"


def find_repository(
    principal: Principal, name: ModelName, verb: Verb = Verb.READ
) -> RepositoryRecord | None:
    """Return the repository of this name, or None where there is none that the principal may see.

    Names match whatever their case; a tag in it means nothing. Whether the verb is allowed is told
    by the record.
    """
    found = models_for(principal, Verb.READ).filter(
        host__iexact=DEFAULT_HOST,
        namespace__iexact=name.namespace or LIBRARY,
        name__iexact=name.model,
    )
    is_allowed = model_access.may(principal, verb, model="", tag="")
    # As in `selectors`: one's own comes first, then what has its name here, then mirrors.
    ordered = sorted(
        found.annotate(is_allowed=ExpressionWrapper(is_allowed, output_field=BooleanField())),
        key=lambda model: (model.owner_id != principal.user_id, model.is_mirror, model.pk),
    )
    if not ordered:
        return None
    row = ordered[0]
    return RepositoryRecord(row.pk, row.namespace, row.name, row.is_mirror, row.is_allowed)


def repository_names(principal: Principal) -> set[str]:
    """Return the names of all repositories that hold anything and that the principal may read."""
    holds = Q(tags__isnull=False) | Q(revisions__isnull=False)
    found = models_for(principal, Verb.PULL).filter(holds, host__iexact=DEFAULT_HOST)
    rows = found.values_list("namespace", "name").distinct()
    return {f"{namespace}/{name}" for namespace, name in rows}


def file_sizes(model_id: int, digests: Iterable[str] | None = None) -> dict[str, int]:
    """Return the size of each file of a repository by its digest: pushed, or a manifest's layer.

    `digests`: only of these.
    """
    layers = _layers(model_id)
    pushed = RepositoryBlob.objects.filter(model_id=model_id)
    if digests is not None:
        wanted = list(digests)
        layers = layers.filter(blob__digest__in=wanted)
        pushed = pushed.filter(digest__in=wanted)
    sizes = dict(layers.values_list("blob__digest", "blob__size_bytes").distinct())
    return sizes | dict(pushed.values_list("digest", "size_bytes"))


def is_layer_of(model_id: int, digest: str) -> bool:
    """Whether a manifest of the repository needs the file."""
    return _layers(model_id).filter(blob__digest=digest).exists()


@transaction.atomic
def link_blob(record: RepositoryRecord, digest: str, size_bytes: int) -> None:
    """Note that a file is in a repository. Raises ModelNotFound where that has been deleted."""
    # Locked: whoever deletes a repository that holds nothing must see this.
    if not LanguageModel.objects.select_for_update().filter(pk=record.model_id).exists():
        raise ModelNotFound(f"{record.namespace}/{record.name}")
    RepositoryBlob.objects.update_or_create(
        model_id=record.model_id,
        digest=digest,
        defaults={"size_bytes": size_bytes, "linked_at": timezone.now()},
    )


def unlink_blob(model_id: int, digest: str) -> bool:
    """Let a repository go of a file that was pushed; return whether it had it."""
    deleted, _ = RepositoryBlob.objects.filter(model_id=model_id, digest=digest).delete()
    return deleted > 0


def _layers(model_id: int) -> QuerySet[Layer]:
    is_tagged = Q(manifest__tags__model_id=model_id)
    return Layer.objects.filter(is_tagged | Q(manifest__revisions__model_id=model_id))
