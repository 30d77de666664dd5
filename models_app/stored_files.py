"""Which files the tables say that there are, and whose they are. Knows nothing of a disk."""

from collections.abc import Collection

from models_app.models import Blob, Layer, RepositoryBlob, RepositoryManifest, Tag, Upload


def needed_digests() -> set[str]:
    """Return the digests (64 hex) of all files that a manifest, a push or an upload has."""
    layers = Layer.objects.values_list("blob__digest", flat=True)
    uploads = Upload.objects.values_list("digest", flat=True)
    pushed = RepositoryBlob.objects.values_list("digest", flat=True)
    return {*layers.distinct(), *uploads.distinct(), *pushed.distinct()}


def recorded_sizes() -> dict[str, int]:
    """Return the bytes of each file that is a layer, by digest (64 hex)."""
    return dict(Blob.objects.values_list("digest", "size_bytes"))


def is_needed(digest: str) -> bool:
    """Whether a manifest, a push or an upload has the file."""
    return (
        Layer.objects.filter(blob__digest=digest).exists()
        or Upload.objects.filter(digest=digest).exists()
        or RepositoryBlob.objects.filter(digest=digest).exists()
    )


def is_layer(digest: str, media_types: Collection[str]) -> bool:
    """Whether a manifest has the file as a layer of one of these types."""
    return Layer.objects.filter(blob__digest=digest, media_type__in=media_types).exists()


def models_with(digest: str) -> list[str]:
    """Return the names of what has a file as a layer, sorted; of pushed manifests by digest."""
    tags = Tag.objects.filter(manifest__layers__blob__digest=digest).select_related("model")
    pushed = RepositoryManifest.objects.filter(manifest__layers__blob__digest=digest)
    untagged = pushed.exclude(manifest__tags__isnull=False).select_related("model", "manifest")
    names = {tag.full_name.short for tag in tags}
    names |= {f"{row.model}@sha256:{row.manifest.digest}" for row in untagged}
    return sorted(names)
