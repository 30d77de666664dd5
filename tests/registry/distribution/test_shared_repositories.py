"""`/v2` for repositories of teams, for what was granted, and with keys for some models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from models_app import registry_tokens
from models_app.errors import InsufficientScope, ModelNotFound
from models_app.grants import AccessChange, Granted, change_access
from models_app.keys import create_key
from models_app.models import LanguageModel, User, Visibility
from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from ollamasite.errors import ServiceError
from registry import repositories, revisions
from registry.repositories import Action
from tests.registry.distribution.conftest import OCI_INDEX, encoded
from tests.registry.team_cast import TEAM, TeamCast, make_cast, seen

pytestmark = pytest.mark.django_db

BODY = encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
PATH = f"{TEAM}/thing"
PULL, PUSH, DELETE = Action.PULL, Action.PUSH, Action.DELETE


@pytest.fixture
def cast(alice: User, bob: User, mallory: User, admin: User) -> TeamCast:
    return make_cast(alice, bob, mallory, admin)


@pytest.fixture
def pushed(cast: TeamCast) -> TeamCast:
    """The team has a repository, Alice another one."""
    push(seen(cast.maintainer), PATH)
    push(seen(cast.maintainer), "alice/own")
    return cast


def push(principal: Principal, path: str, tag: str = "v1") -> Any:
    return revisions.push_manifest(
        principal, path, revisions.Push(reference=tag, body=BODY, media_type=OCI_INDEX)
    )


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except ServiceError as error:
        return error.code
    return "done"


def found(principal: Principal, path: str) -> list[str]:
    return [
        outcome(partial(repositories.find_repository, principal, path, action)) for action in Action
    ]


def test_pushed_repository_is_the_teams(pushed: TeamCast) -> None:
    row = LanguageModel.objects.get(namespace=TEAM)

    assert (row.team, row.owner, row.visibility) == (pushed.team, None, Visibility.TEAM)


@pytest.mark.parametrize(
    ("who", "outcomes"),
    [
        ("maintainer", ["done", "done", "done"]),
        ("member", ["done", "not_your_model", "not_your_model"]),
        ("viewer", ["not_your_model", "not_your_model", "not_your_model"]),
        ("stranger", ["model_not_found"] * 3),
        ("admin", ["model_not_found"] * 3),
    ],
)
def test_role_decides_what_one_may_do(pushed: TeamCast, who: str, outcomes: list[str]) -> None:
    assert found(seen(getattr(pushed, who)), PATH) == outcomes


@pytest.mark.parametrize(
    ("who", "expected"), [("member", {PATH}), ("viewer", set()), ("stranger", set())]
)
def test_catalog_has_what_one_may_download(pushed: TeamCast, who: str, expected: set[str]) -> None:
    assert set(revisions.list_repositories(seen(getattr(pushed, who)))) == expected


@pytest.mark.parametrize("who", ["member", "viewer", "stranger", "admin"])
def test_only_maintainers_push(pushed: TeamCast, who: str) -> None:
    principal = seen(getattr(pushed, who))

    assert outcome(lambda: push(principal, PATH)) == "not_your_model"
    assert outcome(lambda: push(principal, f"{TEAM}/new")) == "not_your_model"


@pytest.mark.parametrize(
    ("verb", "outcomes"),
    [
        (Verb.USE, ["not_your_model", "not_your_model", "not_your_model"]),
        (Verb.PULL, ["done", "not_your_model", "not_your_model"]),
        (Verb.PUSH, ["done", "done", "not_your_model"]),
        (Verb.MANAGE, ["done", "done", "done"]),
    ],
)
def test_grant_gives_what_its_verb_says(pushed: TeamCast, verb: Verb, outcomes: list[str]) -> None:
    wanted = AccessChange(add=(Granted("mallory", verb),))
    change_access(ModelName.parse("alice/own"), wanted, by=None)

    assert found(seen(pushed.stranger), "alice/own") == outcomes


def test_whoever_was_granted_it_pushes_and_it_stays_its_owners(pushed: TeamCast) -> None:
    wanted = AccessChange(add=(Granted("mallory", Verb.PUSH),))
    change_access(ModelName.parse("alice/own"), wanted, by=None)
    push(seen(pushed.stranger), "alice/own", "v2")
    row = LanguageModel.objects.get(name="own")

    assert row.owner == pushed.maintainer
    assert {tag.name for tag in row.tags.all()} == {"v1", "v2"}
    assert outcome(lambda: push(seen(pushed.stranger), "alice/other")) == "not_your_model"


def test_key_for_some_models_has_no_other_repositories(pushed: TeamCast) -> None:
    principal = seen(pushed.maintainer, model_patterns=("alice/*",))

    assert found(principal, PATH) == ["model_not_found"] * 3
    assert found(principal, "alice/own") == ["done"] * 3
    assert revisions.list_repositories(principal) == ["alice/own"]
    assert outcome(lambda: push(principal, PATH)) == "not_your_model"


def test_key_for_one_tag_has_not_the_whole_repository(pushed: TeamCast) -> None:
    principal = seen(pushed.maintainer, model_patterns=("alice/own:v1",))

    with pytest.raises(ModelNotFound):
        repositories.find_repository(principal, "alice/own", PULL)
    assert outcome(lambda: push(principal, "alice/own")) == "not_your_model"


def test_token_reaches_the_teams_repository_as_far_as_its_owner(pushed: TeamCast) -> None:
    asked = [f"repository:{PATH}:pull,push"]
    for who, outcomes in (
        ("maintainer", ["done", "done", "insufficient_scope"]),
        ("member", ["done", "not_your_model", "insufficient_scope"]),
        ("stranger", ["model_not_found", "model_not_found", "insufficient_scope"]),
    ):
        key, _ = create_key(getattr(pushed, who), "token")
        asker = seen(getattr(pushed, who), key_id=key.pk)
        token = registry_tokens.issue_token(asker, asked)
        principal = registry_tokens.principal_of_token(token.text)

        assert found(principal, PATH) == outcomes
        with pytest.raises(InsufficientScope):
            repositories.find_repository(principal, "alice/own", PULL)
