"""What ends keys, and lines of keys: each has taken the place of the one before it.

Wants the caller's act; asks nobody's rights. Knows no credential's text.
"""

from django.db.models import QuerySet
from django.utils import timezone

from models_app import audit
from models_app.job_cancel import cancel_jobs_by
from models_app.models import ApiKey, Team, User
from models_app.permissions import Principal


def title_of(key: ApiKey) -> str:
    """Return what the audit calls a key."""
    return f"{key.owner.username}: {key.name} ({key.prefix})"


def hold_owner(owner_id: int) -> User | None:
    """Have one at a time make or end a user's keys; None: there is no such user any longer."""
    return User.objects.select_for_update(no_key=True).filter(pk=owner_id).first()


def line_of(key: ApiKey) -> list[int]:
    """Return the ids of the keys of a key's line, the first one first. One query."""
    rotated = ApiKey.objects.filter(owner_id=key.owner_id, successor__isnull=False)
    after = dict(rotated.values_list("pk", "successor_id"))
    before = {later: earlier for earlier, later in after.items()}
    first = key.pk
    while first in before:
        first = before[first]
    line = [first]
    while line[-1] in after:
        line.append(after[line[-1]])
    return line


def end_keys(keys: QuerySet[ApiKey], *, by: Principal | None) -> None:
    """End keys now, with the jobs that were asked for by them; those that have ended stay so."""
    rows = keys.filter(revoked_at=None).select_related("owner").order_by("pk")
    held = list(rows.select_for_update(of=("self",)))
    for key in held:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])  # so that this process forgets it at once
        audit.record("key.revoke", title_of(key), by=by)
    cancel_jobs_by([key.pk for key in held])


def end_made_keys(maker: User, team: Team | None = None, *, by: Principal | None) -> None:
    """End the keys that somebody has made for service accounts of a team, or of all their teams.

    Their maker knows the secrets.
    """
    teams = Team.objects.filter(memberships__user=maker) if team is None else [team]
    # Whoever is making one right now waits, looks at the maker's place again, and makes none.
    services = User.objects.filter(service_of__in=teams).order_by("pk")
    list(services.select_for_update(no_key=True))
    end_keys(ApiKey.objects.filter(made_by=maker, owner__service_of__in=teams), by=by)
