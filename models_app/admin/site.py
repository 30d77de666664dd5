"""The site of the pages under /admin/: who gets in, what the menu shows, pages without a table.

Knows no table and no service.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import URLPattern, path, reverse
from unfold.sites import UnfoldAdminSite

from models_app.permissions import CredentialKind, Principal

# What the menu shows, in this order: a heading, and of what is there names in lower case.
_MENU: Final = (
    ("People", ("user", "team", "invite")),
    ("Keys and limits", ("apikey", "clientkey", "limitrule")),
    ("Models", ("tag", "languagemodel", "alias", "namespace", "upstream")),
    ("Work", ("job", "nodes", "node")),
    ("Records", ("ledgerhour", "ledgerentry", "auditentry")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraPage:
    """A page that shows no table. `is_for` says who may open it."""

    name: str
    title: str
    view: Callable[[HttpRequest], HttpResponse]
    is_for: Callable[[Principal], bool]


def principal_of(request: HttpRequest) -> Principal:
    """Return who asks, as the gate has found out."""
    principal: Principal = request.principal  # type: ignore[attr-defined] # set by the gate
    return principal


class PanelSite(UnfoldAdminSite):  # type: ignore[misc] # the library has no types
    """The pages under /admin/."""

    enable_nav_sidebar = True
    index_title = "Administration"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self._pages: dict[str, ExtraPage] = {}

    def add_page(self, page: ExtraPage) -> None:
        """Add a page to the menu; before the URLconf is read."""
        self._pages[page.name] = page

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether somebody gets in: whoever runs the site or audits it, by a session of theirs."""
        principal: Principal | None = getattr(request, "principal", None)
        if principal is None or principal.kind is not CredentialKind.SESSION:
            return False
        return principal.is_operator or principal.is_auditor

    def extra_urls(self) -> list[URLPattern]:
        """Return the routes of the pages without a table."""
        return [
            path(f"{page.name}/", self.admin_view(page.view), name=page.name)
            for page in self._pages.values()
        ]

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Lead to the one page where people change their password, which is audited."""
        del request, extra_context
        return HttpResponseRedirect(resolve_url("own-password"))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return what somebody may open, by what it is about."""
        found = {
            entry["object_name"].lower(): entry
            for app in super().get_app_list(request, app_label)
            for entry in app["models"]
        }
        principal = principal_of(request)
        found |= {
            page.name: _entry(page) for page in self._pages.values() if page.is_for(principal)
        }
        groups = (
            (title, [found[name] for name in names if name in found]) for title, names in _MENU
        )
        return [
            {
                "name": title,
                "app_label": title.split()[0].lower(),
                "app_url": reverse("admin:index"),
                "has_module_perms": True,
                "models": entries,
            }
            for title, entries in groups
            if entries
        ]


def _entry(page: ExtraPage) -> dict[str, Any]:
    return {
        "name": page.title,
        "object_name": page.name,
        "admin_url": reverse(f"admin:{page.name}"),
        "add_url": None,
        "view_only": True,
        "perms": {"view": True},
        "model": None,
    }


site: Final = PanelSite()
