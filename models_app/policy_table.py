"""The policy table as Markdown, for docs/access.md. Knows no HTTP and decides nothing."""

from typing import Final

from models_app.demands import Demand
from models_app.policy import PREFIXES, ROUTES, WEBSOCKETS, Access, Rule

_HEAD: Final = ("route", "open to", "scope of a key", "and, about what is named")
_WHO: Final = {
    Access.PUBLIC: "all",
    Access.SIGNED_IN: "any credential",
    Access.ACCOUNT: "credentials without limits",
    Access.AUDITOR: "auditors; to change: administrators",
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
    opened = ", ".join(sorted(rule.open_methods))
    return f"{who}; {opened}: all" if opened else who


def _scope(rule: Rule) -> str:
    scope = str(rule.scope or "")
    if not rule.changing_methods or rule.scope is None:
        return scope
    return f"{scope}; {', '.join(sorted(rule.changing_methods))}: write"


def _asks(rule: Rule) -> str:
    by_demand: dict[Demand, list[str]] = {}
    for method, demand in rule.asks.items():
        by_demand.setdefault(demand, []).append(method)
    return "; ".join(f"{', '.join(each)}: {demand.value}" for demand, each in by_demand.items())
