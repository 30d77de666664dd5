"""Keys under /admin/: whose they are, what they are for and when they were used; never a secret.

What may be done with them is decided by `models_app.keys` and `models_app.client_keys`.
"""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin import SimpleListFilter, display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from models_app import keys
from models_app.admin.acts import Act, Doing, Shown
from models_app.admin.panel import Panel
from models_app.admin.site import principal_of, site
from models_app.client_keys import remove_client_key
from models_app.models import ApiKey, ClientKey

_HOURS = int(keys.DEFAULT_OVERLAP.total_seconds() // 3600)


class RotateForm(forms.Form):
    """How long the old key is good beside the new one."""

    overlap_hours = forms.IntegerField(
        label="The old key stays good for (hours)",
        initial=_HOURS,
        min_value=0,
        max_value=keys.MAX_OVERLAP.days * 24,
        widget=UnfoldAdminIntegerFieldWidget,
    )


class StateFilter(SimpleListFilter):
    """Keys that are good, or not any longer."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return what can be chosen."""
        del request, model_admin
        return [("good", "good"), ("ended", "ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Return the rows of the state."""
        del request
        if self.value() not in {"good", "ended"}:
            return queryset
        good = ApiKey.objects.usable().values("pk")
        is_good = self.value() == "good"
        return queryset.filter(pk__in=good) if is_good else queryset.exclude(pk__in=good)


def _rotate(doing: Doing, key: ApiKey) -> Shown:
    overlap = timedelta(hours=doing.values["overlap_hours"])
    made = keys.rotate_key(doing.by, key.prefix, overlap=overlap)
    explains = f"It takes the place of {key}. It is shown this once: hand it over now."
    return Shown("A new key", explains, made.secret)


def _revoke(doing: Doing, key: ApiKey) -> None:
    keys.revoke(doing.by, key.prefix)


def _is_good(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > timezone.now())


class ApiKeyAdmin(Panel):
    """Everybody's keys: to look at and to end."""

    is_for_auditors = True
    acts = (
        Act(
            name="revoke",
            label="Revoke",
            explains="These keys, and those that have taken their place, stop working now, for "
            "requests that are running too.",
            do=_revoke,
            consequences=lambda key: [f"of {key.owner}, {_last_use(key)}"],
            is_for=_is_good,
            is_grave=True,
        ),
        Act(
            name="rotate",
            label="Rotate",
            explains="A new key with the same limits takes its place. For your own keys, and for "
            "those of service accounts of teams that you maintain.",
            do=_rotate,
            form=RotateForm,
            is_for=lambda key: _is_good(key) and key.successor_id is None,
            is_single=True,
        ),
    )
    fields = (
        *("prefix", "name", "owner", "team", "scope_list", "pattern_list", "network_list"),
        *("created_at", "expires_at", "revoked_at", "last_used_at", "last_used_address"),
        "successor",
    )
    list_display = ("prefix", "name", "owner", "scope_list", "state", "last_used_at", "address")
    list_display_links = ("prefix",)
    list_select_related = ("owner", "team", "successor")
    list_filter = (StateFilter,)
    search_fields = ("prefix", "name", "owner__username")
    ordering = ("-pk",)
    sortable_by = ("prefix", "name", "last_used_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        """Return all keys, without their hashes."""
        rows: QuerySet[ApiKey] = super().get_queryset(request)
        return rows.select_related("owner", "team", "successor").defer("secret_hash")

    @display(description="may be used to")
    def scope_list(self, key: ApiKey) -> str:
        """Return the scopes."""
        return ", ".join(key.scopes) or "everything"

    @display(description="models")
    def pattern_list(self, key: ApiKey) -> str:
        """Return the patterns of models."""
        return ", ".join(key.model_patterns) or "all"

    @display(description="networks")
    def network_list(self, key: ApiKey) -> str:
        """Return the networks that it may be used from."""
        return ", ".join(key.networks) or "all"

    @display(description="from")
    def address(self, key: ApiKey) -> str:
        """Return where it was last used."""
        return key.last_used_address or "-"

    @display(description="state")
    def state(self, key: ApiKey) -> str:
        """Return whether it works."""
        if key.revoked_at is not None:
            return "revoked"
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return "expired"
        return "good" if key.owner.is_active else "owner deactivated"


class ClientKeyAdmin(Panel):
    """Ed25519 keys that users have registered: to look at and to remove."""

    is_for_auditors = True
    fields = ("owner", "name", "fingerprint", "created_at", "last_used_at")
    list_display = ("name", "owner", "fingerprint", "created_at", "last_used_at")
    list_display_links = ("name",)
    list_select_related = ("owner",)
    search_fields = ("owner__username", "name", "fingerprint")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Administrators."""
        del obj
        return principal_of(request).is_admin

    def delete_model(self, request: HttpRequest, obj: ClientKey) -> None:
        """Remove one."""
        remove_client_key(obj.owner_id, obj.pk, by=principal_of(request))


def _last_use(key: ApiKey) -> str:
    return f"last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"


site.register(ApiKey, ApiKeyAdmin)
site.register(ClientKey, ClientKeyAdmin)
