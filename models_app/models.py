"""Every table of the site.

Private to models_app: other apps read through `selectors` and write through `services`.
Knows nothing of HTTP and of the engine.
"""

from typing import Any, ClassVar, Final

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Lower
from django.utils import timezone

from models_app.names import DEFAULT_HOST, LIBRARY, ModelName

# What Ollama and this site write (contract/registry.md 1.3).
MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


class _JSONField(models.JSONField):
    """JSON in which NUL is U+FFFD: what others write has it, and PostgreSQL refuses it."""

    def get_db_prep_value(
        self,
        value: Any,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: FBT001, FBT002 - as Django has it
    ) -> Any:
        """Return the value as the database takes it."""
        return super().get_db_prep_value(_without_nul(value), connection, prepared)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Return it as migrations name it: the column is an ordinary one."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


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
    gguf = _JSONField(null=True, blank=True)

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
    config = _JSONField(default=dict)
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


class ClientKey(models.Model):
    """An ed25519 public key by which a user's `ollama` CLI, or their other site, is known.

    `public_key` is the base64 text of an OpenSSH public key line; the fingerprint is the SHA-256
    of the bytes behind it.
    """

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="client_keys")
    name = models.CharField(max_length=100)
    public_key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64, unique=True)  # 64 hex
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["owner_id", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]}…)"


class UsedSignature(models.Model):
    """A signature that has been accepted, so that nobody who has seen it can send it again."""

    digest = models.CharField(max_length=64, unique=True)  # 64 hex, of key and signature
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.digest[:12]


class JobKind(models.TextChoices):
    """What a job does."""

    PULL = "pull"
    PUSH = "push"
    CREATE = "create"
    QUANTIZE = "quantize"
    VERIFY = "verify"
    COLLECT_GARBAGE = "gc"


class JobState(models.TextChoices):
    """How far a job is. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE_STATES: Final = (JobState.QUEUED, JobState.RUNNING)


class Job(models.Model):
    """Long work that outlives the request that asked for it.

    The worker's queue only wakes somebody up: which job comes next is read from these rows, and
    one whose heartbeat has stopped is taken up again. `version` grows with every change.
    """

    job_id = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=10, choices=JobKind)
    state = models.CharField(max_length=10, choices=JobState, default=JobState.QUEUED)
    owner = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, related_name="jobs"
    )  # None: the site itself
    model_name = models.CharField(max_length=700, blank=True)  # what it is about, as shown
    share_key = models.CharField(max_length=64)  # who asks for the same thing gets the same job
    arguments = models.TextField()  # a JSON object; passwords in it are encrypted
    is_detached = models.BooleanField(default=False)  # goes on though nobody watches
    is_cancel_asked = models.BooleanField(default=False)
    events = models.TextField(default="[]")  # JSON list: of each status the last event, in order
    version = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(default=0)
    completed_bytes = models.PositiveBigIntegerField(default=0)
    bytes_per_s = models.PositiveBigIntegerField(default=0)
    error = _JSONField(null=True, blank=True)  # code, status, message
    attempt = models.PositiveSmallIntegerField(default=0)  # how often it was begun
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["state", "created_at"], name="job_by_state")]
        constraints = [
            models.UniqueConstraint(
                fields=["share_key"],
                condition=models.Q(state__in=ACTIVE_STATES),
                name="active_job_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.model_name}"


class JobWatcher(models.Model):
    """Somebody who follows a job over an open request; gone when not seen for a while."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="watchers")
    watcher_id = models.CharField(max_length=32, unique=True)
    is_starter = models.BooleanField(default=False)
    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.watcher_id
