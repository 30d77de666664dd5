"""Machines with models' runners that may join the site."""

from django.db import models


class NodeState(models.TextChoices):
    """What an administrator wants of a node."""

    ACTIVE = "active"
    CORDONED = "cordoned"  # no new requests
    DRAINING = "draining"  # the same, and what runs ends and leaves


class Node(models.Model):
    """A node that may join with its token, and what it said when it did.

    Until it has joined, `address` is empty. The secret that web processes present to it is made
    from the site's key and `secret_salt`, so it is nowhere.
    """

    name = models.CharField(max_length=40, unique=True)
    token_digest = models.CharField(max_length=64, unique=True)  # peppered HMAC-SHA256, hex
    state = models.CharField(max_length=8, choices=NodeState.choices, default=NodeState.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    address = models.CharField(max_length=280, blank=True)  # host:port, as web dials it
    fingerprint = models.CharField(max_length=64, blank=True)  # SHA-256 of its certificate, hex
    secret_salt = models.CharField(max_length=32, blank=True)
    memory_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    devices = models.JSONField(default=list, blank=True)  # [{"name": …, "total_bytes": …}]
    joined_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        """Return its name."""
        return self.name
