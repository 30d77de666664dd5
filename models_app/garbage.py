"""What the tables let go of, where nobody needs it and those who run the site do not keep it.

That is uploads of which nothing was made, tags and pushed manifests by the namespace's rules,
repositories without anything and records of the past. Each function is a short transaction of its
own and may run beside any other work. Times are the latest that is old enough to go. Knows
nothing of files, formats and HTTP.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from models_app.models import (
    ACTIVE_STATES,
    Blob,
    Job,
    JobWatcher,
    LanguageModel,
    Layer,
    Manifest,
    Namespace,
    RepositoryBlob,
    RepositoryManifest,
    Tag,
    Upload,
    UploadSession,
    UsedSignature,
)
from models_app.namespaces import matches_any
from models_app.revisions import keep_for_now
from models_app.row_locks import locked

# ------------------------------------------------------------------ uploads


def idle_sessions(before: datetime) -> list[str]:
    """Return the ids of the uploads to repositories that nobody has used since."""
    idle = UploadSession.objects.filter(used_at__lt=before)
    return list(idle.values_list("session_id", flat=True))


def known_sessions(session_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that are an upload's."""
    found = UploadSession.objects.filter(session_id__in=list(session_ids))
    return set(found.values_list("session_id", flat=True))


def drop_uploads(before: datetime) -> int:
    """Forget files that users have brought and made nothing of; return how many.

    Layers of a model need no upload. Those of a user whose job is under way stay: it may be for
    them, and last longer than uploads are kept.
    """
    is_at_work = Exists(Job.objects.filter(owner=OuterRef("user"), state__in=ACTIVE_STATES))
    return Upload.objects.filter(~is_at_work, created_at__lt=before).delete()[0]


def drop_links(before: datetime, *, quiet_since: datetime) -> int:
    """Forget files that were pushed to a repository and that no manifest had need of.

    Layers of a manifest need no link. Those of a repository to which something is being pushed, or
    was after `quiet_since`, stay: the manifest comes last. Returns how many are gone.
    """
    same = {"model": OuterRef("model")}
    is_sending = Exists(UploadSession.objects.filter(**same))
    is_in_use = Exists(RepositoryBlob.objects.filter(**same, linked_at__gte=quiet_since))
    old = RepositoryBlob.objects.filter(~is_sending, ~is_in_use, linked_at__lt=before)
    # Named first: while it deletes, a database may see rows that are gone already.
    keys = list(old.values_list("pk", flat=True))
    return RepositoryBlob.objects.filter(pk__in=keys, linked_at__lt=before).delete()[0]


# ------------------------------------------------------------------ retention


def drop_surplus_tags() -> int:
    """Delete all but the newest tags of each model where a namespace keeps only so many.

    Immutable ones stay, whatever their number. Returns how many are gone.
    """
    dropped = 0
    for rules in Namespace.objects.filter(kept_tags__gt=0):
        models = LanguageModel.objects.filter(is_mirror=False, namespace__iexact=rules.name)
        for key in models.values_list("pk", flat=True):
            dropped += _drop_surplus_tags(key, rules)
    return dropped


@transaction.atomic
def _drop_surplus_tags(model_id: int, rules: Namespace) -> int:
    if not LanguageModel.objects.select_for_update().filter(pk=model_id).exists():
        return 0
    tags = Tag.objects.filter(model=model_id).order_by("-modified_at", "-pk")
    surplus = tags.values_list("pk", "name", "manifest")[rules.kept_tags or 0 :]
    going = {
        key: manifest_id
        for key, name, manifest_id in surplus
        if not matches_any(rules.immutable_tags, name)
    }
    keep_for_now(model_id, going.values())
    return Tag.objects.filter(pk__in=going).delete()[0]


@dataclass(frozen=True, slots=True)
class _Contents:
    """The manifests of a repository, by digest; `roots` stay for their own sake."""

    roots: set[str] = field(default_factory=set)
    children: dict[str, list[str]] = field(default_factory=dict)
    referrers: dict[str, list[str]] = field(default_factory=dict)

    def add(self, manifest: Manifest, *, is_root: bool) -> None:
        """Add one."""
        if is_root:
            self.roots.add(manifest.digest)
        self.children[manifest.digest] = list(manifest.children)
        if manifest.subject:
            self.referrers.setdefault(manifest.subject, []).append(manifest.digest)

    def staying(self) -> set[str]:
        """Return the digests of the roots, of all that they name and of all that refers to them."""
        staying: set[str] = set()
        waiting = list(self.roots)
        while waiting:
            digest = waiting.pop()
            if digest not in staying:
                staying.add(digest)
                waiting += self.children.get(digest, [])
                waiting += self.referrers.get(digest, [])
        return staying


def drop_untagged(before: datetime) -> int:
    """Let repositories go of manifests without a tag that were pushed, and last had one, before.

    What an index that stays names stays with it, and so does what refers to one that stays.
    Returns how many are gone.
    """
    is_tagged = Exists(Tag.objects.filter(model=OuterRef("model"), manifest=OuterRef("manifest")))
    old = RepositoryManifest.objects.filter(~is_tagged, last_named_at__lt=before)
    models = list(old.values_list("model", flat=True).distinct())
    return sum(_drop_untagged(key, before) for key in models)


@transaction.atomic
def _drop_untagged(model_id: int, before: datetime) -> int:
    if not LanguageModel.objects.select_for_update().filter(pk=model_id).exists():
        return 0
    contents = _Contents()
    for tag in Tag.objects.filter(model=model_id).select_related("manifest"):
        contents.add(tag.manifest, is_root=True)
    pushed = RepositoryManifest.objects.filter(model=model_id).select_related("manifest")
    old: list[tuple[int, str]] = []
    for revision in pushed.defer("manifest__body", "manifest__config"):
        is_old = revision.last_named_at < before
        if is_old:
            old.append((revision.pk, revision.manifest.digest))
        if revision.manifest.digest not in contents.roots:
            contents.add(revision.manifest, is_root=not is_old)
    staying = contents.staying()
    keys = [key for key, digest in old if digest not in staying]
    return RepositoryManifest.objects.filter(pk__in=keys, last_named_at__lt=before).delete()[0]


# ------------------------------------------------------------------ what is left over


@transaction.atomic
def drop_empty_models(before: datetime) -> int:
    """Remove repositories that hold nothing any longer; return how many."""
    own = {"model": OuterRef("pk")}
    empty = LanguageModel.objects.filter(
        ~Exists(Tag.objects.filter(**own)),
        ~Exists(RepositoryManifest.objects.filter(**own)),
        ~Exists(RepositoryBlob.objects.filter(**own)),
        ~Exists(UploadSession.objects.filter(**own)),
        created_at__lt=before,
    )
    keys = locked(empty)
    LanguageModel.objects.filter(pk__in=keys).delete()
    return len(keys)


@transaction.atomic
def drop_stale_blobs() -> int:
    """Remove records of files that are no layer of anything; return how many."""
    is_layer = Exists(Layer.objects.filter(blob=OuterRef("pk")))
    keys = locked(Blob.objects.filter(~is_layer))
    Blob.objects.filter(pk__in=keys).delete()
    return len(keys)


def drop_signatures(before: datetime) -> int:
    """Forget signatures that are too old to be accepted again anyway; return how many."""
    return UsedSignature.objects.filter(used_at__lt=before).delete()[0]


def drop_watchers(before: datetime) -> int:
    """Forget those who followed a job and have not been seen since; return how many."""
    return JobWatcher.objects.filter(seen_at__lt=before).delete()[0]


def drop_jobs(before: datetime) -> int:
    """Forget jobs that ended before; return how many."""
    ended = Job.objects.filter(ended_at__lt=before).exclude(state__in=ACTIVE_STATES)
    keys = list(ended.values_list("pk", flat=True))
    ended.filter(pk__in=keys).delete()
    return len(keys)
