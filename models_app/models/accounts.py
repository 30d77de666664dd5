"""Tables of people: users, teams, their keys. Knows no model."""

from collections.abc import Iterator
from typing import ClassVar, Final

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from models_app.permissions import SiteRole, TeamRole

_SITE_ROLES: Final = [(str(role), str(role) or "none") for role in SiteRole]
_TEAM_ROLES: Final = [(str(role), str(role)) for role in TeamRole]


class Team(models.Model):
    """People who share models, limits and a namespace, which bears the team's name.

    `allowed_models`: patterns such as `llama* qwen3:*`, with blanks, of the shared models that its
    members may use; empty: no list. Set by the site's administrators.
    """

    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    allowed_models = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="team_name_once")]

    def __str__(self) -> str:
        return self.name


class User(AbstractUser):
    """A person with an account, or a program's: a team's service account, which has no password.

    `is_superuser` is the site admin. `awaits_approval`: has signed up and was not let in yet, and
    is not active. `home_team`: to which the use of the user's keys counts that name no team.
    """

    site_role = models.CharField(
        max_length=10, choices=_SITE_ROLES, default=SiteRole.NONE, blank=True
    )
    awaits_approval = models.BooleanField(default=False)
    home_team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.SET_NULL, related_name="at_home"
    )
    service_of = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="service_accounts"
    )
    session_generation = models.PositiveIntegerField(default=0, editable=False)

    def get_session_auth_hash(self) -> str:
        """Return what a session must know to be good still: of the password, and the generation."""
        return self._of_generation(super().get_session_auth_hash())

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Yield the same under the site's former secrets."""
        for known in super().get_session_auth_fallback_hash():
            yield self._of_generation(known)

    def _of_generation(self, known: str) -> str:
        return f"{known}.{self.session_generation}" if self.session_generation else known


class BrowserSession(models.Model):
    """Where somebody has signed in: what Django's session of this key does not say."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="browser_sessions")
    session_key = models.CharField(max_length=40, unique=True)
    began_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    address = models.GenericIPAddressField(null=True, blank=True)
    agent = models.CharField(max_length=200, blank=True)  # what the browser says that it is

    class Meta:
        ordering = ["user_id", "-seen_at"]

    def __str__(self) -> str:
        return f"session {self.pk}"


class Membership(models.Model):
    """A user's place in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=_TEAM_ROLES, default=TeamRole.MEMBER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["team_id", "user_id"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}: {self.role}"


class Invite(models.Model):
    """A link by which one person makes an account, or joins a team; good once, until it expires.

    Only a peppered hash of its secret is stored. `team` None: the site alone.
    """

    token_hash = models.CharField(max_length=64, unique=True)  # hex
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="invites"
    )
    role = models.CharField(max_length=10, choices=_TEAM_ROLES, default=TeamRole.MEMBER)
    note = models.CharField(max_length=200, blank=True)  # for whom it is
    created_by = models.ForeignKey(
        User, null=True, on_delete=models.SET_NULL, related_name="invites_made"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.ForeignKey(
        User, null=True, on_delete=models.SET_NULL, related_name="invites_used"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"invite {self.pk}"


class SiteLock(models.Model):
    """A row to lock where no other stands for what two must not do at once."""

    name = models.CharField(max_length=40, unique=True)

    def __str__(self) -> str:
        return self.name


class FormerName(models.Model):
    """A name whose user or team is gone. It is given to nobody else.

    Aliases, keys and teams' lists may name it still, and would then mean somebody else's models.
    Only a peppered hash of it is kept: whoever is gone may want to be forgotten.
    """

    name_hash = models.CharField(max_length=64, unique=True)  # hex, of the name in lower case
    gone_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name_hash[:12]


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Selections of keys."""

    def usable(self) -> "ApiKeyQuerySet":
        """Keys that still open the door.

        Not revoked, not expired, the owner active and in the key's team where it has one.
        """
        places = Membership.objects.filter(
            team_id=models.OuterRef("team_id"), user_id=models.OuterRef("owner_id")
        )
        return self.filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now()),
            models.Q(team=None) | models.Exists(places),
            revoked_at=None,
            owner__is_active=True,
        )


class ApiKey(models.Model):
    """A credential of a user. Only its prefix and a peppered hash are stored.

    `scopes`: verbs; `model_patterns`: of the models that it may be used for; `networks`: CIDR
    blocks that it may be used from. Each empty: no limit. `team`: to which its use counts.
    `successor`: the key that has taken its place. `made_by`: who was told its secret; None: whoever
    has a shell on the site's machine.
    """

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=64)
    scopes = models.JSONField(default=list, blank=True)
    model_patterns = models.JSONField(default=list, blank=True)
    networks = models.JSONField(default=list, blank=True)
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys"
    )
    made_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="keys_made"
    )
    successor = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replaces"
    )
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_address = models.GenericIPAddressField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager["ApiKey"]] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["owner_id", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


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
