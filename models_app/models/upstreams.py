"""Tables of engines elsewhere, such as vLLM, and of the models that they serve here."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from models_app.models.library import Manifest


class UpstreamKind(models.TextChoices):
    """Which program an engine is: what it understands beyond OpenAI's API."""

    VLLM = "vllm", "vLLM"
    SGLANG = "sglang", "SGLang"
    LLAMA_CPP = "llama.cpp", "llama.cpp's server"
    OPENAI = "openai", "another one that speaks OpenAI's API"


class Upstream(models.Model):
    """An engine elsewhere. `sealed_key` is what it wants to be shown, encrypted.

    What was seen when it was last looked at: `is_up` (None: never looked), since when, what was
    wrong, and which models it has (`id` and, where told, `context_length`).
    """

    name = models.CharField(max_length=80)
    url = models.CharField(max_length=500)  # where the routes of OpenAI's dialect begin
    kind = models.CharField(max_length=20, choices=UpstreamKind.choices)
    sealed_key = models.TextField(blank=True)
    concurrency = models.PositiveIntegerField(
        default=8, validators=[MinValueValidator(1), MaxValueValidator(4096)]
    )
    first_s = models.PositiveIntegerField(default=300)
    silence_s = models.PositiveIntegerField(default=60)
    is_enabled = models.BooleanField(default=True)
    is_up = models.BooleanField(null=True, default=None)
    changed_at = models.DateTimeField(null=True, blank=True)  # when it went up or down
    checked_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=400, blank=True)
    offers = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = "engine elsewhere"
        verbose_name_plural = "engines elsewhere"
        constraints = [models.UniqueConstraint(Lower("name"), name="upstream_name_once")]

    def __str__(self) -> str:
        return self.name


class ServedModel(models.Model):
    """What stands behind a manifest without weights: a model of an engine elsewhere.

    Only the site makes these rows, so no manifest that is brought along can name an engine.
    """

    manifest = models.OneToOneField(Manifest, on_delete=models.CASCADE, related_name="served")
    upstream = models.ForeignKey(
        Upstream, null=True, on_delete=models.SET_NULL, related_name="served"
    )  # None: it was removed
    model = models.CharField(max_length=400)  # what the engine calls it

    def __str__(self) -> str:
        return self.model
