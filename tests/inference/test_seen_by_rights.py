"""What of the loaded models and of the queue one is told: by teams, site roles and keys."""

from typing import Any

import pytest

from inference.loaded import visible_loaded
from inference.messages import LoadedModel
from inference.queue import sees_all
from models_app.permissions import (
    CredentialKind,
    Principal,
    Scope,
    SiteRole,
    TeamPlace,
    TeamRole,
)


def person(**more: Any) -> Principal:
    fields: dict[str, Any] = {"is_admin": False, "kind": CredentialKind.KEY}
    return Principal(user_id=1, username="alice", **{**fields, **more})


def in_team(role: TeamRole, **more: Any) -> Principal:
    return person(teams=(TeamPlace(7, "vision", role),), **more)


@pytest.mark.parametrize(
    ("principal", "is_told"),
    [
        (in_team(TeamRole.MAINTAINER), True),
        (in_team(TeamRole.MEMBER), False),
        (in_team(TeamRole.MAINTAINER, model_patterns=("alice/*",)), False),
        (person(), False),
        (person(is_admin=True), False),
    ],
)
def test_teams_deleted_model_that_is_still_loaded_is_told_to_who_wrote_it(
    principal: Principal, is_told: bool
) -> None:
    model = LoadedModel(
        name="vision/gone:latest",
        digest="d" * 64,
        size_bytes=1,
        size_vram_bytes=0,
        context_length=1,
        expires_in_s=None,
    )

    assert bool(visible_loaded(principal, [model], [])) is is_told


@pytest.mark.parametrize(
    ("principal", "is_told"),
    [
        (person(is_admin=True), True),
        (person(site_role=SiteRole.OPERATOR), True),
        (person(site_role=SiteRole.OPERATOR, scopes=frozenset({Scope.READ})), False),
        (person(site_role=SiteRole.OPERATOR, model_patterns=("tiny",)), False),
        (person(site_role=SiteRole.AUDITOR), False),
        (person(), False),
    ],
)
def test_operators_see_everybodys_place_in_the_queue(principal: Principal, is_told: bool) -> None:
    assert sees_all(principal) is is_told
