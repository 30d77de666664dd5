"""Engines elsewhere under /admin/: what they are and how they are, for those who run the site.

Adding, changing, asking and serving are offered by `registry.admin`; switching and removing are
here. A key is written and never shown.
"""

from typing import Any, ClassVar

from django.contrib.admin import display
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from models_app import upstreams
from models_app.admin.acts import Act, Doing
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.models import Upstream

_MOST_SHOWN = 50


def _enable(doing: Doing, row: Upstream) -> None:
    upstreams.set_enabled(row.name, is_enabled=True, by=doing.by)


def _disable(doing: Doing, row: Upstream) -> None:
    upstreams.set_enabled(row.name, is_enabled=False, by=doing.by)


def _remove(doing: Doing, row: Upstream) -> None:
    upstreams.remove(row.name, by=doing.by)


class UpstreamAdmin(Panel):
    """Engines such as vLLM, whose models have names of this site."""

    acts: ClassVar[tuple[Act, ...]] = (
        Act(
            name="enable",
            label="Switch on",
            explains="Its models are served again.",
            do=_enable,
            is_for=lambda row: not row.is_enabled,
        ),
        Act(
            name="disable",
            label="Switch off",
            explains="What runs there ends as it would; whoever asks for its models from now on is "
            "told that they are not served.",
            do=_disable,
            is_for=lambda row: row.is_enabled,
            is_grave=True,
        ),
        Act(
            name="remove",
            label="Remove",
            explains="The engine and its key are forgotten. Its models keep their names and say "
            "that they are not served, until somebody deletes them.",
            do=_remove,
            is_grave=True,
        ),
    )
    fields = (
        *("name", "where", "kind", "has_key", "at_a_time", "begins_within", "pieces_within"),
        *("state", "changed_at", "checked_at", "offered", "serves", "created_at"),
    )
    list_display = ("name", "kind", "where", "at_a_time", "state", "serves_count")
    list_display_links = ("name",)
    list_filter = ("kind", "is_enabled")
    search_fields = ("name", "url")
    sortable_by = ("name", "kind", "at_a_time")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all engines with how many models they serve, and without their keys."""
        rows: QuerySet[Any] = super().get_queryset(request)
        listed: QuerySet[Any] = rows.annotate(served_count=Count("served"))
        return listed

    @display(description="URL")
    def where(self, row: Upstream) -> str:
        """Return where it is."""
        return row.url

    @display(description="requests at a time", ordering="concurrency")
    def at_a_time(self, row: Upstream) -> int:
        """Return how many requests it gets at once."""
        return row.concurrency

    @display(description="seconds until an answer begins")
    def begins_within(self, row: Upstream) -> int:
        """Return how long it may take to begin."""
        return row.first_s

    @display(description="seconds between its pieces")
    def pieces_within(self, row: Upstream) -> int:
        """Return how long it may be silent."""
        return row.silence_s

    @display(description="key")
    def has_key(self, row: Upstream) -> str:
        """Return whether it is shown a key, and nothing of that."""
        return "set" if row.sealed_key else "-"

    @display(description="state")
    def state(self, row: Upstream) -> str:
        """Return how it is."""
        return upstreams.state_of(row)

    @display(description="serves")
    def serves_count(self, row: Any) -> int:
        """Return how many manifests it stands behind."""
        return int(row.served_count)

    @display(description="has the models")
    def offered(self, row: Upstream) -> str:
        """Return what it had when it was last looked at."""
        names = [str(offer.get("id", "")) for offer in row.offers]
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        return ", ".join(names[:_MOST_SHOWN]) + more or "-"

    @display(description="serves")
    def serves(self, row: Upstream) -> str:
        """Return which of its models have which names here."""
        return ", ".join(upstreams.served_names(row)) or "-"


site.register(Upstream, UpstreamAdmin)
