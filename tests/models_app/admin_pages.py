"""The pages under /admin/ for tests: who looks, how a page is opened and an act is done."""

from typing import Any, Final

from django.test import Client

from models_app.accounts import create_user
from models_app.models import User
from models_app.people import set_role
from models_app.permissions import SiteRole

PASSWORD: Final = "a quiet evening walk"
HOME: Final = "/admin/models_app"
TABLES: Final = (
    *("user", "team", "invite", "apikey", "clientkey", "limitrule", "tag", "languagemodel"),
    *("alias", "namespace", "upstream", "job", "node"),
    *("ledgerhour", "ledgerentry", "auditentry"),
)
OPERATORS_TABLES: Final = frozenset({"tag", "languagemodel", "alias", "namespace", "job", "node"})
AUDITORS_TABLES: Final = frozenset(
    {
        *("user", "team", "invite", "apikey", "clientkey", "limitrule"),
        *("ledgerhour", "ledgerentry", "auditentry"),
    }
)


def staff(name: str, role: SiteRole) -> User:
    """Make somebody with a role for the whole site."""
    create_user(name, PASSWORD)
    set_role(name, site_role=role, by=None)
    return User.objects.get(username=name)


def browser_of(user: User) -> Client:
    """Return a browser in which somebody has signed in."""
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def address_of(table: str, act: str, *rows: Any) -> str:
    """Return the page of an act with these rows."""
    chosen = "?rows=" + ",".join(str(row.pk) for row in rows) if rows else ""
    return f"{HOME}/{table}/act/{act}/{chosen}"


def text_of(answer: Any) -> str:
    """Return a page's text."""
    return str(answer.content.decode())
