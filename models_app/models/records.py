"""What has happened: one row for every request that was served, and for every act of somebody.

Rows name people and models in text too and refer to none: they outlive them. No prompt, no answer
and no other text of a request is in them.
"""

from django.db import models
from django.utils import timezone


class Outcome(models.TextChoices):
    """How a request ended."""

    DONE = "done"
    LEFT = "left"  # the client has gone or cancelled
    FAILED = "failed"
    LOST = "lost"  # a process died meanwhile; what was used until then is counted


class LedgerEntry(models.Model):
    """One request that was let in. Times are microseconds; 0 ids: none."""

    request_id = models.CharField(max_length=40, unique=True)
    began_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(db_index=True)
    user_id = models.PositiveBigIntegerField(default=0)
    user_name = models.CharField(max_length=150, blank=True)
    team_id = models.PositiveBigIntegerField(default=0)
    team_name = models.CharField(max_length=80, blank=True)
    key_id = models.PositiveBigIntegerField(default=0)
    key_name = models.CharField(max_length=120, blank=True)
    credential = models.CharField(max_length=20)  # models_app.permissions.CredentialKind
    address = models.GenericIPAddressField(null=True, blank=True)
    model_name = models.CharField(max_length=700)
    model_digest = models.CharField(max_length=64)  # of the manifest, 64 hex
    dialect = models.CharField(max_length=12)  # ollamasite.error_responses.Dialect
    kind = models.CharField(max_length=12)  # generate, chat, embed, load
    priority = models.CharField(max_length=12)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    error_code = models.CharField(max_length=60, blank=True)
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)
    tokens_cached = models.PositiveBigIntegerField(default=0)  # of those that came in
    queue_us = models.PositiveBigIntegerField(default=0)
    load_us = models.PositiveBigIntegerField(default=0)
    prefill_us = models.PositiveBigIntegerField(default=0)
    decode_us = models.PositiveBigIntegerField(default=0)
    compute_us = models.PositiveBigIntegerField(default=0)
    parameters = models.JSONField(default=dict)  # numbers and flags by name
    seed = models.BigIntegerField(null=True, blank=True)
    node = models.CharField(max_length=80, blank=True)

    class Meta:
        ordering = ["-began_at", "-pk"]
        indexes = [
            models.Index(fields=["user_id", "began_at"], name="ledger_of_user"),
            models.Index(fields=["team_id", "began_at"], name="ledger_of_team"),
            models.Index(fields=["key_id", "began_at"], name="ledger_of_key"),
            models.Index(fields=["model_name", "began_at"], name="ledger_of_model"),
            # Few of millions have failed, or came in a dialect that is rare.
            models.Index(fields=["outcome", "began_at"], name="ledger_of_outcome"),
            models.Index(fields=["dialect", "began_at"], name="ledger_of_dialect"),
            # Of those alone: what a limit that is read anew asks for.
            models.Index(
                fields=["began_at"],
                condition=models.Q(outcome=Outcome.LOST.value),
                name="ledger_lost",
            ),
        ]
        verbose_name = "request"

    def __str__(self) -> str:
        return self.request_id


class _Counted(models.Model):
    """Whose use is added up, and how much it is."""

    user_id = models.PositiveBigIntegerField(default=0)
    user_name = models.CharField(max_length=150, blank=True)
    team_id = models.PositiveBigIntegerField(default=0)
    team_name = models.CharField(max_length=80, blank=True)
    key_id = models.PositiveBigIntegerField(default=0)
    key_name = models.CharField(max_length=120, blank=True)
    model_name = models.CharField(max_length=700)
    dialect = models.CharField(max_length=12)
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)  # failed and lost
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)
    tokens_cached = models.PositiveBigIntegerField(default=0)
    compute_us = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True


class LedgerHour(_Counted):
    """The sums of an hour (UTC) for one user, team, key, model and dialect; stays for good."""

    hour = models.DateTimeField()

    class Meta:
        verbose_name = "hour of use"
        verbose_name_plural = "use by the hour"
        ordering = ["-hour", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "user_id", "team_id", "key_id", "model_name", "dialect"],
                name="ledger_hour_once",
            ),
        ]
        indexes = [
            models.Index(fields=["user_id", "hour"], name="ledger_hour_of_user"),
            models.Index(fields=["team_id", "hour"], name="ledger_hour_of_team"),
            models.Index(fields=["key_id", "hour"], name="ledger_hour_of_key"),
            models.Index(fields=["model_name", "hour"], name="ledger_hour_of_model"),
            # Of users who are gone, nothing else knows who they were.
            models.Index(fields=["user_name", "user_id"], name="ledger_hour_of_name"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.user_name} {self.model_name}"


class LedgerDay(_Counted):
    """The sums of a day (UTC), kept apart like those of an hour: the hours, added up."""

    day = models.DateTimeField()

    class Meta:
        verbose_name = "day of use"
        verbose_name_plural = "use by the day"
        ordering = ["-day", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "user_id", "team_id", "key_id", "model_name", "dialect"],
                name="ledger_day_once",
            ),
        ]
        indexes = [
            models.Index(fields=["user_id", "day"], name="ledger_day_of_user"),
            models.Index(fields=["team_id", "day"], name="ledger_day_of_team"),
            models.Index(fields=["key_id", "day"], name="ledger_day_of_key"),
            models.Index(fields=["model_name", "day"], name="ledger_day_of_model"),
        ]

    def __str__(self) -> str:
        return f"{self.day:%Y-%m-%d} {self.user_name} {self.model_name}"


class LedgerAxis(models.TextChoices):
    """What the sums of the whole site are kept apart by."""

    SITE = "site"  # nothing
    USER = "user"
    TEAM = "team"
    KEY = "key"  # and its user
    MODEL = "model"
    DIALECT = "dialect"


class LedgerSpan(models.TextChoices):
    """How long the sums of the whole site are."""

    HOUR = "hour"  # of SITE alone
    DAY = "day"
    MONTH = "month"


class LedgerTotal(_Counted):
    """The sums of a time (UTC) for the whole site along one axis: the hours, added up.

    What the axis does not keep apart is empty, or 0.
    """

    axis = models.CharField(max_length=8, choices=LedgerAxis.choices)
    span = models.CharField(max_length=8, choices=LedgerSpan.choices)
    begins = models.DateTimeField()

    class Meta:
        verbose_name = "total of use"
        verbose_name_plural = "totals of use"
        ordering = ["-begins", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=[
                    *("axis", "span", "begins"),
                    *("user_id", "team_id", "key_id", "model_name", "dialect"),
                ],
                name="ledger_total_once",
            ),
        ]
        indexes = [
            # Names are forgotten by it.
            models.Index(
                fields=["user_id", "begins"],
                condition=models.Q(user_id__gt=0),
                name="ledger_total_of_user",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.axis} {self.span} {self.begins:%Y-%m-%d %H:00}"


class NameToForget(models.Model):
    """A user who is gone, and whose name may still be in the ledger: `models_app.forgetting`."""

    user_id = models.PositiveBigIntegerField(unique=True)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return str(self.user_id)


class AuditEntry(models.Model):
    """One administrative act or sign-in. `digest` covers the row and the digest before it."""

    sequence = models.PositiveBigIntegerField(unique=True)  # from 1, without a gap
    at = models.DateTimeField(db_index=True)
    actor_id = models.PositiveBigIntegerField(default=0)
    actor_name = models.CharField(max_length=150, blank=True, db_index=True)
    credential = models.CharField(max_length=60, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    action = models.CharField(max_length=60, db_index=True)  # such as "key.revoke"
    subject = models.CharField(max_length=700, blank=True)  # what it was done to
    details = models.JSONField(default=dict)
    previous = models.CharField(max_length=64, blank=True)  # 64 hex; empty: the first
    digest = models.CharField(max_length=64)  # 64 hex

    class Meta:
        ordering = ["-sequence"]
        indexes = [models.Index(fields=["actor_id", "sequence"], name="audit_of_actor")]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.sequence} {self.action} {self.subject}"
