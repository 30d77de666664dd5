"""Every table of the site.

Private to models_app: other apps read through `selectors` and write through `services`.
Knows nothing of HTTP and of the engine.
"""

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from models_app.names import DEFAULT_HOST, LIBRARY, ModelName


class User(AbstractUser):
    """A person with an account. `is_superuser` is the site admin."""


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Selections of keys."""

    def usable(self) -> "ApiKeyQuerySet":
        """Keys that still open the door: not revoked, not expired, owner active."""
        now = timezone.now()
        return self.filter(revoked_at=None, owner__is_active=True).exclude(expires_at__lte=now)


class ApiKey(models.Model):
    """A credential of a user. Only its prefix and a peppered hash are stored."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=64)
    scopes = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager["ApiKey"]] = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["owner_id", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Blob(models.Model):
    """A file of the content-addressed store. `gguf` holds its metadata where it is a model."""

    digest = models.CharField(max_length=64, unique=True)  # 64 hex, lower case
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    gguf = models.JSONField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sha256:{self.digest}"


class Manifest(models.Model):
    """A manifest as it was written or received: the digest is that of `body`."""

    digest = models.CharField(max_length=64, unique=True)
    body = models.BinaryField()
    config = models.JSONField(default=dict)
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
    EVERYONE = "everyone"


class CacheScope(models.TextChoices):
    """Between whose requests what a model has computed of a prompt is shared.

    Sharing tells how fast somebody's prompt was, and so whether another had asked the same.
    """

    USER = "user"
    EVERYONE = "everyone"


class LanguageModel(models.Model):
    """A model: a name without its tag, who owns it, who may see it, how it is served."""

    host = models.CharField(max_length=350, default=DEFAULT_HOST)
    namespace = models.CharField(max_length=80, default=LIBRARY)
    name = models.CharField(max_length=80)
    owner = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="language_models"
    )
    visibility = models.CharField(
        max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE
    )
    cache_scope = models.CharField(
        max_length=10, choices=CacheScope.choices, default=CacheScope.USER
    )
    is_pinned = models.BooleanField(default=False)  # stays in memory once it is loaded
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            # Ollama looks names up regardless of case: two spellings are one model.
            models.UniqueConstraint(
                Lower("host"), Lower("namespace"), Lower("name"), name="model_name_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


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


class StoredResponse(models.Model):
    """An answer of `/v1/responses` with what was asked, kept for its owner alone.

    Both are JSON text and not JSON columns: PostgreSQL's would refuse a NUL inside a string, and
    nobody but the owner's programs reads them. `root_id` is the first answer of the conversation,
    so that a whole one is read at once; the size comes before the texts to be cheap to sum up.
    """

    response_id = models.CharField(max_length=64, unique=True)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="responses")
    model_name = models.CharField(max_length=700)  # as it was asked for
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    previous_id = models.CharField(max_length=64, blank=True)
    root_id = models.CharField(max_length=64, db_index=True)
    size_bytes = models.PositiveBigIntegerField()  # of both texts
    input = models.TextField()  # a JSON list of items
    body = models.TextField()  # the JSON object that was answered

    class Meta:
        indexes = [
            models.Index(fields=["owner", "created_at", "size_bytes"], name="response_of_owner"),
        ]

    def __str__(self) -> str:
        return self.response_id


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
