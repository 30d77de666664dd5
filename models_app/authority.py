"""Who may administer what: the questions that services ask before they act. Knows no HTTP.

`by` None is the site itself, or whoever has a shell on its machine: they may do everything.
"""

from models_app.errors import KeyHasLimits, TeamNotFound
from models_app.permissions import Principal, Scope, TeamRole
from ollamasite.errors import Forbidden


def is_admin(by: Principal | None) -> bool:
    """Whether they administer the site, and their credential reaches as far."""
    return by is None or by.may(Scope.ADMIN)


def require_admin(by: Principal | None) -> None:
    """Raise Forbidden for everybody but administrators of the site."""
    if not is_admin(by):
        raise Forbidden


def require_unlimited(by: Principal | None) -> None:
    """Raise Forbidden for a key with limits, which would give more than it is itself."""
    if by is not None and not by.is_unlimited:
        raise KeyHasLimits


def require_operator(by: Principal | None) -> None:
    """Raise Forbidden for whoever may not look after the site's models and names."""
    if by is not None and not by.may_operate:
        raise Forbidden


def require_auditor(by: Principal | None) -> None:
    """Raise Forbidden for whoever may not look at people and records."""
    if by is not None and not (by.is_auditor and by.is_for_account):
        raise Forbidden


def require_team_role(by: Principal | None, team_name: str, role: TeamRole) -> None:
    """Raise Forbidden for a place in the team that is too low, TeamNotFound for none at all.

    Administrators of the site may what its owners may.
    """
    if by is None or is_admin(by):
        return
    if by.role_in(team_name) is None:
        raise TeamNotFound(team_name)
    if not by.reaches_in(team_name, role):
        raise Forbidden


def may_see_team(by: Principal | None, team_name: str) -> bool:
    """Whether they may know of a team: its members, and whoever looks after people."""
    return by is None or by.is_auditor or by.role_in(team_name) is not None
