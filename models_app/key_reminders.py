"""Keys that somebody should renew before programs stop working. Knows no page."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from models_app.models import ApiKey
from models_app.permissions import Principal


@dataclass(frozen=True, slots=True)
class ExpiringKey:
    """A key that is good for a while yet."""

    prefix: str
    name: str
    expires_at: datetime


def expiring_keys(by: Principal, *, within: timedelta, most: int = 3) -> list[ExpiringKey]:
    """Return the caller's keys that expire soon and that no other takes the place of.

    For who reaches the account; others are told of none.
    """
    if not by.is_for_account:
        return []
    rows = ApiKey.objects.usable().filter(
        owner_id=by.user_id, successor=None, expires_at__lt=timezone.now() + within
    )
    found = rows.order_by("expires_at").values_list("prefix", "name", "expires_at")[:most]
    return [ExpiringKey(prefix, name, at) for prefix, name, at in found if at is not None]
