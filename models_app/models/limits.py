"""Limits of use that have been decided for somebody or something."""

from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from models_app.models.accounts import ApiKey, Team, User
from models_app.models.library import LanguageModel


class LimitSubject(models.TextChoices):
    """Whose use is counted together."""

    SITE = "site"  # all of it
    EACH_USER = "each user"  # every user by themselves, who has no rule of their own
    TEAM = "team"
    USER = "user"
    KEY = "key"
    MODEL = "model"


class LimitUnit(models.TextChoices):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"  # requests that are under way; has no period


class LimitPeriod(models.TextChoices):
    """How soon it is there again; days and months are those of UTC."""

    NONE = "", "none"
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


class LimitRule(models.Model):
    """At most `amount` of a unit in a period. All rules that concern a request hold together."""

    subject = models.CharField(max_length=10, choices=LimitSubject.choices)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE)
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE)
    model = models.ForeignKey(LanguageModel, null=True, blank=True, on_delete=models.CASCADE)
    unit = models.CharField(max_length=10, choices=LimitUnit.choices)
    period = models.CharField(
        max_length=10, choices=LimitPeriod.choices, default=LimitPeriod.NONE, blank=True
    )
    amount = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "limit"
        ordering = ["subject", "pk"]
        constraints = [
            # Two empty columns are equal here, which a plain constraint has otherwise.
            models.UniqueConstraint(
                "subject",
                *(Coalesce(name, 0) for name in ("team", "user", "key", "model")),
                "unit",
                "period",
                name="limit_rule_once",
            ),
        ]

    def __str__(self) -> str:
        whose = self.team or self.user or self.key or self.model or self.subject
        per = f" per {self.period}" if self.period else ""
        return f"{self.amount} {self.unit}{per} for {whose}"
