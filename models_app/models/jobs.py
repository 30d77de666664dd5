"""Long work and who follows it."""

from typing import Final

from django.db import models
from django.utils import timezone

from models_app.models.accounts import ApiKey, User
from models_app.models.fields import CleanJSONField


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
    model_patterns = models.JSONField(default=list, blank=True)  # of the key that asked for it
    key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs"
    )  # that asked for it, where one alone did
    share_key = models.CharField(max_length=64)  # who asks for the same thing gets the same job
    arguments = models.TextField()  # a JSON object; passwords in it are encrypted
    is_detached = models.BooleanField(default=False)  # goes on though nobody watches
    is_cancel_asked = models.BooleanField(default=False)
    events = models.TextField(default="[]")  # JSON list: of each status the last event, in order
    version = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(default=0)
    completed_bytes = models.PositiveBigIntegerField(default=0)
    bytes_per_s = models.PositiveBigIntegerField(default=0)
    error = CleanJSONField(null=True, blank=True)  # code, status, message
    attempt = models.PositiveSmallIntegerField(default=0)  # how often it was begun
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    dismissed_at = models.DateTimeField(null=True, blank=True)  # seen: it needs no attention

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
