"""Tables of models and of the registry that holds them."""

from typing import Final

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from models_app.models.accounts import Team, User
from models_app.models.fields import CleanJSONField
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName

# What Ollama and this site write (contract/registry.md 1.3).
MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


class Blob(models.Model):
    """A file of the content-addressed store. `gguf` holds its metadata where it is a model."""

    digest = models.CharField(max_length=64, unique=True)  # 64 hex, lower case
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    gguf = CleanJSONField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sha256:{self.digest}"


class Manifest(models.Model):
    """A manifest as it was written or received: the digest is that of `body`.

    `is_model`: it can be run. Others are kept for the registry's clients: indexes, which name
    `children`, and artifacts, which may have a `subject` (OCI image and distribution specs).
    Digests are 64 hex digits.
    """

    digest = models.CharField(max_length=64, unique=True)
    body = models.BinaryField()
    media_type = models.CharField(max_length=255, default=MANIFEST_TYPE)
    is_model = models.BooleanField(default=True)
    children = models.JSONField(default=list)
    subject = models.CharField(max_length=64, blank=True, db_index=True)
    artifact_type = models.CharField(max_length=255, blank=True)
    config = CleanJSONField(default=dict)
    size_bytes = models.PositiveBigIntegerField(default=0)  # of all its layers and the config
    created_at = models.DateTimeField(default=timezone.now)
    blobs: "models.ManyToManyField[Blob, Layer]" = models.ManyToManyField(
        Blob, through="Layer", related_name="manifests"
    )

    def __str__(self) -> str:
        return self.digest[:12]


class Layer(models.Model):
    """A blob's place in a manifest; the config comes first, at position 0."""

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="layers")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="layers")
    position = models.PositiveSmallIntegerField()
    media_type = models.CharField(max_length=120)

    class Meta:
        ordering = ["manifest_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["manifest", "position"], name="layer_position_once"),
        ]

    def __str__(self) -> str:
        return f"{self.media_type} {self.blob}"


class Upload(models.Model):
    """A file of the store that somebody has brought and that is no layer of theirs yet."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="uploads")
    digest = models.CharField(max_length=64, db_index=True)  # 64 hex, lower case
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "digest"], name="upload_once"),
        ]

    def __str__(self) -> str:
        return f"sha256:{self.digest}"


class Visibility(models.TextChoices):
    """Who may see a model besides its owner."""

    PRIVATE = "private"
    TEAM = "team"  # the members of the team in whose namespace it is
    EVERYONE = "everyone"


class CacheScope(models.TextChoices):
    """Between whose requests what a model has computed of a prompt is shared.

    Sharing tells how fast somebody's prompt was, and so whether another had asked the same.
    """

    USER = "user"
    EVERYONE = "everyone"


class LanguageModel(models.Model):
    """A model: a name without its tag, who owns it, who may see it, how it is served.

    It is also a repository of the registry: what was pushed under the name, with a tag or without.
    `is_mirror`: it has the name it bears in another registry, which is nobody's here, so that
    everybody who pulls it has one of their own.
    """

    host = models.CharField(max_length=350, default=DEFAULT_HOST)
    namespace = models.CharField(max_length=80, default=LIBRARY)
    name = models.CharField(max_length=80)
    owner = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="language_models"
    )
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="language_models"
    )  # whose namespace it is in; such a model has no owner
    visibility = models.CharField(
        max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE
    )
    cache_scope = models.CharField(
        max_length=10, choices=CacheScope.choices, default=CacheScope.USER
    )
    is_pinned = models.BooleanField(default=False)  # stays in memory once it is loaded
    is_mirror = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "model"
        constraints = [
            # Ollama looks names up regardless of case: two spellings are one model.
            models.UniqueConstraint(
                Lower("host"),
                Lower("namespace"),
                Lower("name"),
                condition=models.Q(is_mirror=False),
                name="model_name_once",
            ),
            models.UniqueConstraint(
                "owner",
                Lower("host"),
                Lower("namespace"),
                Lower("name"),
                condition=models.Q(is_mirror=True),
                name="mirror_name_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ModelGrant(models.Model):
    """What somebody, or every member of a team, may do with a model besides those it belongs to.

    `verb`: one of `models_app.permissions.Verb`. Exactly one of user and team is set.
    """

    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, related_name="grants"
    )
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="grants"
    )
    verb = models.CharField(max_length=10)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["model_id", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "user", "verb"],
                condition=models.Q(team=None),
                name="grant_to_user_once",
            ),
            models.UniqueConstraint(
                fields=["model", "team", "verb"],
                condition=models.Q(user=None),
                name="grant_to_team_once",
            ),
            models.CheckConstraint(
                condition=models.Q(user=None) ^ models.Q(team=None), name="grant_to_one"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.model} for {self.user or self.team}"


class Tag(models.Model):
    """A named version of a model."""

    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=80)
    manifest = models.ForeignKey(Manifest, on_delete=models.PROTECT, related_name="tags")
    modified_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-modified_at", "-pk"]
        constraints = [
            models.UniqueConstraint("model", Lower("name"), name="tag_name_once"),
        ]

    def __str__(self) -> str:
        return self.full_name.short

    @property
    def full_name(self) -> ModelName:
        """The tag's whole name."""
        model = self.model
        return ModelName(
            host=model.host, namespace=model.namespace, model=model.name, tag=self.name
        )


class Alias(models.Model):
    """A name for everybody that stands for a model, and shows it to nobody who may not see it.

    Both are written as `ModelName.short` has them; the name has no namespace. The model is named
    and not referred to, so that it can be deleted and come back.
    """

    name = models.CharField(
        max_length=161, help_text="What people ask for, such as gpt-4o-mini; no namespace."
    )
    target = models.CharField(
        "model",
        max_length=600,
        help_text="What they get: a model of the library, or NAMESPACE/MODEL.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"
        constraints = [
            models.UniqueConstraint(Lower("name"), name="alias_name_once"),
        ]

    def __str__(self) -> str:
        return self.name


class RepositoryManifest(models.Model):
    """A manifest that was pushed to a repository; it stays for a while without any tag.

    `last_named_at`: when it was pushed, or when a tag let go of it since.
    """

    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="revisions")
    manifest = models.ForeignKey(Manifest, on_delete=models.PROTECT, related_name="revisions")
    last_named_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "manifest"], name="revision_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model}@{self.manifest}"


class RepositoryBlob(models.Model):
    """A file that was pushed to, or mounted into, a repository, perhaps before any manifest."""

    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="files")
    digest = models.CharField(max_length=64, db_index=True)  # 64 hex, lower case
    size_bytes = models.PositiveBigIntegerField()
    linked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "digest"], name="repository_blob_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} sha256:{self.digest}"


class UploadSession(models.Model):
    """A file on its way into a repository. How much has come is the size of its file."""

    session_id = models.CharField(max_length=32, unique=True)
    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="sessions")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="upload_sessions")
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.session_id


class Namespace(models.Model):
    """What an administrator has decided for a namespace; one without a row has the site's rules."""

    name = models.CharField(max_length=80)
    quota_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    immutable_tags = models.CharField(
        max_length=400, blank=True, help_text="Patterns such as v* or release-*, with blanks."
    )
    kept_tags = models.PositiveIntegerField(
        null=True, blank=True, help_text="The newest tags of each model that stay; empty: all."
    )

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="namespace_once")]

    def __str__(self) -> str:
        return self.name
