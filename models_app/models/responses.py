"""Answers that are kept for those who asked."""

from django.db import models
from django.utils import timezone

from models_app.models.accounts import User


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
