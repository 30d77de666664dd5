"""A table as it is shown under /admin/: who sees it, what can be done there, and the acts' pages.

Rows are looked at, and changed by acts alone, unless a table says otherwise. What is done is
recorded in the audit by the services, and in no log of the admin's own. Knows no single table.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin import ListFilter, ShowFacets
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.enums import ActionVariant

from models_app import audit
from models_app.admin.acts import MOST_ROWS, MOST_TOLD, Act, Doing, Outcome, Shown, perform
from models_app.admin.site import principal_of

_ROWS = "rows"


class Panel(ModelAdmin):  # type: ignore[misc] # the library has no types
    """Administrators see and do everything; others what their role is for."""

    is_for_operators: ClassVar[bool] = False
    is_for_auditors: ClassVar[bool] = False
    is_editable: ClassVar[bool] = False  # by forms of its own, by those who look after it
    acts: ClassVar[tuple[Act, ...]] = ()

    list_per_page = 20
    list_max_show_all = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_display_links: Any = None

    @classmethod
    def offer(cls, *acts: Act) -> None:
        """Add acts to the table's pages; before the URLconf is read."""
        cls.acts = (*cls.acts, *acts)

    # ------------------------------------------------------------------ who may

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether somebody may look at the rows."""
        del obj
        principal = principal_of(request)
        is_audited = self.is_for_auditors and principal.is_auditor
        return principal.is_admin or is_audited or self._is_looked_after(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether somebody may add rows in a form."""
        del obj
        return self.is_editable and self._is_looked_after(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether somebody may change rows in a form."""
        del obj
        return self.is_editable and self._is_looked_after(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether somebody may delete rows."""
        del obj
        return self.is_editable and self._is_looked_after(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the table is in the menu."""
        return self.has_view_permission(request)

    def _is_looked_after(self, request: HttpRequest) -> bool:
        principal = principal_of(request)
        return principal.is_admin or (self.is_for_operators and principal.is_operator)

    def _acts_of(self, request: HttpRequest) -> list[Act]:
        principal = principal_of(request)
        acts = [act for act in self.acts if act.is_of(principal)]
        return sorted(acts, key=lambda act: act.is_grave)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Whether the address of the list may narrow it by a field: by its filters alone.

        Any other field would tell, guess by guess, what no page shows: hashes of passwords and
        keys, what a job was told.
        """
        del value
        filters = self.list_filter if request is None else self.get_list_filter(request)
        names = {_parameter_of(one) for one in filters}
        return lookup.removesuffix("__exact").removesuffix("__isnull") in names

    # ------------------------------------------------------------------ where acts are offered

    def get_urls(self) -> list[Any]:
        """Return the routes of the table, those of its acts first."""
        name = self._route("act")
        view = self.admin_site.admin_view(self.act_view)
        return [path("act/<slug:act_name>/", view, name=name), *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return what can be done with the rows that are chosen in the list."""
        found: dict[str, Any] = super().get_actions(request)
        if not self.has_delete_permission(request):
            found.pop("delete_selected", None)
        for act in self._acts_of(request):
            if not (act.is_of_none or act.is_single):
                found[act.name] = (_asked(act), act.name, act.label)
        return found

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, with the acts of no row above it."""
        response: HttpResponse = super().changelist_view(request, extra_context)
        self._add_buttons(response, "actions_list", request, None)
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """Show a row, with its acts above it."""
        with _form_of(request):
            response: HttpResponse = super().changeform_view(
                request, object_id, form_url, extra_context
            )
        if object_id:
            self._add_buttons(response, "actions_detail", request, object_id)
        return response

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Answer that there is none: the audit has what was done."""
        raise Http404

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Ask before a row is deleted, and delete it."""
        with _form_of(request):
            response: HttpResponse = super().delete_view(request, object_id, extra_context)
        return response

    def _add_buttons(
        self, response: HttpResponse, where: str, request: HttpRequest, object_id: str | None
    ) -> None:
        if not isinstance(response, TemplateResponse) or response.context_data is None:
            return
        row = response.context_data.get("original")
        offered = [
            act
            for act in self._acts_of(request)
            if act.is_of_none is (object_id is None) and (row is None or act.is_for(row))
        ]
        response.context_data[where] = [self._button(act, row) for act in offered]

    def _button(self, act: Act, row: Any) -> dict[str, Any]:
        variant = ActionVariant.DANGER if act.is_grave else ActionVariant.DEFAULT
        rows = [row.pk] if row is not None else []
        return {
            "title": act.label,
            "icon": None,
            "variant": variant,
            "attrs": {},
            "dialog": None,
            "path": self.address_of(act, rows),
        }

    def address_of(self, act: Act, keys: Iterable[Any] = ()) -> str:
        """Return the page that asks before an act is done with these rows."""
        chosen = urlencode({_ROWS: ",".join(map(str, keys))})
        address = reverse(f"admin:{self._route('act')}", args=[act.name])
        return address if act.is_of_none else f"{address}?{chosen}"

    def _route(self, what: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{what}"

    # ------------------------------------------------------------------ doing it

    def act_view(self, request: HttpRequest, act_name: str) -> HttpResponse:
        """Ask before an act is done, and do it."""
        act = next((act for act in self.acts if act.name == act_name), None)
        if act is None:
            raise Http404
        if not (self.has_view_permission(request) and act.is_of(principal_of(request))):
            raise PermissionDenied
        rows = [] if act.is_of_none else self._chosen(request, act)
        initial = dict(act.initial(rows[0])) if len(rows) == 1 else {}
        form = act.form(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            doing = Doing(request, principal_of(request), form.cleaned_data)
            outcome = perform(act, doing, rows)
            if outcome.shown is not None:
                return self._show(request, outcome.shown)
            if outcome.done:
                return self._back(request, act, outcome, rows)
            for failure in outcome.failed:
                form.add_error(None, failure)
        return self._ask(request, act, form, rows)

    def _chosen(self, request: HttpRequest, act: Act) -> Sequence[Any]:
        asked = request.GET.get(_ROWS, "").split(",")
        keys = [text for text in asked if text.isascii() and text.isdecimal()]
        keys = [key[:18] for key in keys[: MOST_ROWS + 1]]
        rows = list(self.get_queryset(request).filter(pk__in=keys).order_by("pk"))
        if not rows or len(rows) > (1 if act.is_single else MOST_ROWS):
            raise Http404
        return rows

    def _ask(self, request: HttpRequest, act: Act, form: Any, rows: Sequence[Any]) -> HttpResponse:
        is_told = len(rows) <= MOST_TOLD
        context = {
            **self.admin_site.each_context(request),
            "title": act.label,
            "opts": self.opts,
            "act": act,
            "form": form,
            "rows": [(str(row), act.consequences(row) if is_told else ()) for row in rows],
            "back": self._list_address(),
        }
        return TemplateResponse(request, "models_app/admin/act.html", context)

    def _show(self, request: HttpRequest, shown: Shown) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": shown.title,
            "opts": self.opts,
            "shown": shown,
            "back": self._list_address(),
        }
        # No browser keeps it: the site has that said of every page here.
        return TemplateResponse(request, "models_app/admin/shown.html", context)

    def _back(
        self, request: HttpRequest, act: Act, outcome: Outcome, rows: Sequence[Any]
    ) -> HttpResponse:
        done = ", ".join(filter(None, outcome.done))
        messages.success(request, f"{act.label}: {done}" if done else f"{act.label}: done")
        for failure in outcome.failed:
            messages.error(request, failure)
        still = self.get_queryset(request).filter(pk=rows[0].pk) if len(rows) == 1 else None
        if still is not None and still.exists():
            return HttpResponseRedirect(
                reverse(f"admin:{self._route('change')}", args=[rows[0].pk])
            )
        return HttpResponseRedirect(self._list_address())

    def _list_address(self) -> str:
        return reverse(f"admin:{self._route('changelist')}")

    # ------------------------------------------------------------------ forms

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's own
        """Refuse: tables with forms call the service that writes."""
        raise PermissionDenied

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Refuse: tables whose rows may be deleted call the service that deletes."""
        raise PermissionDenied

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete those that were chosen in the list."""
        for row in queryset:
            self.delete_model(request, row)

    # ------------------------------------------------------------------ no second log

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Do nothing: the service has recorded it."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Do nothing: the service has recorded it."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """Do nothing: the service has recorded it."""


def _form_of(request: HttpRequest) -> AbstractContextManager[None]:
    """Return the act that sending a form is: Django's own transaction around it is no act."""
    return audit.act() if request.method == "POST" else nullcontext()


def _parameter_of(list_filter: Any) -> str:
    """Return the parameter, or the beginning of those, by which a filter of a list is asked."""
    if isinstance(list_filter, type) and issubclass(list_filter, ListFilter):
        return str(getattr(list_filter, "parameter_name", ""))
    return str(list_filter)


def _asked(act: Act) -> Any:
    """Return what the list does with chosen rows: it leads to the act's page."""

    def ask(panel: Panel, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        keys = list(rows.values_list("pk", flat=True)[: MOST_ROWS + 1])
        if len(keys) > MOST_ROWS:
            messages.error(request, f"Choose {MOST_ROWS} rows at most.")
            return None
        return HttpResponseRedirect(panel.address_of(act, keys))

    return ask
