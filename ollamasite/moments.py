"""Moments as people write them in queries and on the command line. Knows nothing of either."""

from datetime import UTC, datetime

from django.utils import timezone
from django.utils.dateparse import parse_datetime


def parse_moment(text: str) -> datetime:
    """Return the moment that `2026-01-31`, `2026-01-31T12:00` or `…T12:00:00Z` stands for, in UTC.

    Without a zone it is the site's (OLLAMASITE_TIME_ZONE). Raises ValueError, also for one that is
    not in the years 1 to 9999 of UTC.
    """
    moment = parse_datetime(text.strip())
    if moment is None:
        raise ValueError(text)
    try:
        aware = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
        return aware.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def print_moment(moment: datetime) -> str:
    """Return a moment as APIs tell it: RFC 3339 in UTC, with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
