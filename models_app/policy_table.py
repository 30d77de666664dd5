"""The policy table as Markdown, for docs/access.md. Knows no HTTP and decides nothing."""

from collections.abc import Iterable
from typing import Final

from models_app.demands import Demand
from models_app.permissions import Scope
from models_app.policy import PREFIXES, ROUTES, WEBSOCKETS, Access, Rule

_HEAD: Final = ("route", "open to", "scope of a key", "and, about what is named")
_WHO: Final = {
    Access.PUBLIC: "all",
    Access.SIGNED_IN: "any credential",
    Access.ACCOUNT: "credentials that reach the account",
    Access.AUDITOR: "auditors; to change: administrators",
    Access.NODE: "nodes, by their join token",
    Access.STAFF: "operators, auditors, administrators",
}


def to_markdown() -> str:
    """Return one row for every route, those of WebSockets and of the admin panel last."""
    rows = [*ROUTES.items(), *WEBSOCKETS.items()]
    rows += [(f"{prefix}/…", rule) for prefix, rule in PREFIXES.items()]
    lines = [_HEAD, ("---",) * len(_HEAD), *(_row(route, rule) for route, rule in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(route: str, rule: Rule) -> tuple[str, ...]:
    return f"`/{route}`", _who(rule), _scope(rule), _asks(rule)


def _who(rule: Rule) -> str:
    who = _WHO[rule.access]
    if rule.is_for_sessions:
        who = "people signed in" if rule.access is Access.SIGNED_IN else f"{who}, signed in"
    if rule.is_for_scrapers:
        who += "; programs that OLLAMASITE_METRICS_TOKEN or OLLAMASITE_METRICS_NETWORKS let in"
    if rule.account_methods:
        who += f"; {_listed(rule.account_methods)}: {_WHO[Access.ACCOUNT]}"
    if rule.unlimited_methods:
        who += f"; {_listed(rule.unlimited_methods)}: credentials without limits"
    return f"{who}; {_listed(rule.open_methods)}: all" if rule.open_methods else who


def _scope(rule: Rule) -> str:
    scopes = [str(rule.scope or "")]
    if rule.scope is not None:
        others = ((rule.changing_methods, Scope.WRITE), (rule.account_methods, Scope.ADMIN))
        scopes += [f"{_listed(methods)}: {scope}" for methods, scope in others if methods]
    return "; ".join(scopes)


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(sorted(methods))


def _asks(rule: Rule) -> str:
    by_demand: dict[Demand, list[str]] = {}
    for method, demand in rule.asks.items():
        by_demand.setdefault(demand, []).append(method)
    return "; ".join(f"{', '.join(each)}: {demand.value}" for demand, each in by_demand.items())
