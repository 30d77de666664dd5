"""The ledger and the audit under /admin/: to look at and to search, and nothing else.

There may be millions of rows: none of these pages counts them, and each is found by an index.
"""

from django.contrib.admin import display
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator

from models_app import audit_log
from models_app.admin.acts import Act, Doing, Shown
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.models import AuditEntry, LedgerEntry, LedgerHour, Team, User
from ollamasite.errors import Conflict

_US_PER_S = 1_000_000


class _Records(Panel):
    is_for_auditors = True
    paginator = InfinitePaginator
    sortable_by = ()


def _seconds(microseconds: int) -> str:
    return f"{microseconds / _US_PER_S:.2f} s"


def _named(text: str) -> Q:
    """Return the condition of rows of the ledger that have to do with a name.

    Of one kind of name alone, as users and teams share theirs: there is an index for each.
    """
    user = User.objects.filter(username__iexact=text).values_list("pk", flat=True).first()
    if user is not None:
        return Q(user_id=user)
    team = Team.objects.filter(name__iexact=text).values_list("pk", flat=True).first()
    return Q(model_name=text) if team is None else Q(team_id=team)


class LedgerHourAdmin(_Records):
    """Sums by the hour."""

    list_display = (
        *("hour", "user_name", "team_name", "key_name", "model_name", "dialect"),
        *("requests", "failed", "tokens_in", "tokens_out", "compute"),
    )
    list_display_links = ("hour",)
    search_fields = ("user_name",)
    search_help_text = "The name of a user, a team or a model"
    ordering = ("-hour", "-pk")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerHour], search_term: str
    ) -> tuple[QuerySet[LedgerHour], bool]:
        """Return the sums of a user, a team or a model."""
        del request
        text = search_term.strip()
        return (queryset.filter(_named(text)) if text else queryset), False

    @display(description="compute")
    def compute(self, row: LedgerHour) -> str:
        """Return how long the engine has computed."""
        return _seconds(row.compute_us)


class LedgerEntryAdmin(_Records):
    """One row for each request."""

    list_display = (
        *("began_at", "user_name", "team_name", "model_name", "kind", "dialect", "outcome"),
        *("tokens_in", "tokens_out", "compute"),
    )
    list_display_links = ("began_at",)
    search_fields = ("request_id",)
    search_help_text = "The name of a user, a team or a model, or the id of a request"
    ordering = ("-began_at", "-pk")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerEntry], search_term: str
    ) -> tuple[QuerySet[LedgerEntry], bool]:
        """Return the requests of a user, a team or a model, or one request."""
        del request
        text = search_term.strip()
        if not text:
            return queryset, False
        one = queryset.filter(request_id=text)
        return (one if one.exists() else queryset.filter(_named(text))), False

    @display(description="compute")
    def compute(self, row: LedgerEntry) -> str:
        """Return how long the engine has computed."""
        return _seconds(row.compute_us)


def _verify(doing: Doing, _row: None) -> Shown:
    del doing
    verdict = audit_log.verify()
    if verdict.fault:
        raise Conflict(f"The audit is broken: {verdict.fault}.")
    explains = (
        f"All {verdict.rows} rows are as they were written. Keep this digest of the last one: "
        "`ollamasite audit verify` tells by it whether rows are gone from the end."
    )
    return Shown("The audit is whole", explains, verdict.head)


class AuditEntryAdmin(_Records):
    """Every administrative act and sign-in."""

    acts = (
        Act(
            name="verify",
            label="Verify",
            explains="Every row is read, and it is told whether any was changed or removed.",
            do=_verify,
            is_of=lambda principal: principal.is_auditor,
            is_of_none=True,
        ),
    )
    list_display = ("sequence", "at", "actor_name", "action", "subject", "address", "credential")
    list_display_links = ("sequence",)
    search_fields = ("actor_name", "action", "subject")
    search_help_text = "Part of an action, of who did it, or of what it was done to"
    ordering = ("-sequence",)


site.register(LedgerHour, LedgerHourAdmin)
site.register(LedgerEntry, LedgerEntryAdmin)
site.register(AuditEntry, AuditEntryAdmin)
