"""Who may do what with a model: the rules one by one, and that facts and rows are judged alike."""

import random
from typing import Any, Final

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from models_app import model_access
from models_app.model_access import GRANTED_VERBS, Grant, ModelFacts, allows
from models_app.models import (
    LanguageModel,
    Manifest,
    ModelGrant,
    Tag,
    Team,
    User,
    Visibility,
)
from models_app.names import DEFAULT_HOST, ModelName
from models_app.permissions import (
    CredentialKind,
    Principal,
    Scope,
    SiteRole,
    TeamPlace,
    TeamRole,
    Verb,
)

ALL: Final = frozenset(Verb)
NONE: Final[frozenset[Verb]] = frozenset()
SHARED: Final = frozenset({Verb.READ, Verb.USE, Verb.PULL})
READ: Final = frozenset({Verb.READ})
ALICE, BOB, TEAM = 1, 2, 7


def person(user_id: int = BOB, *, role: TeamRole | None = None, **more: Any) -> Principal:
    fields: dict[str, Any] = {"is_admin": False, "kind": CredentialKind.KEY}
    if role is not None:
        fields["teams"] = (TeamPlace(TEAM, "vision", role),)
    return Principal(user_id=user_id, username=f"user{user_id}", **{**fields, **more})


def facts(name: str = "alice/tiny", **more: Any) -> ModelFacts:
    fields: dict[str, Any] = {"owner_id": ALICE, "team_id": None, "visibility": Visibility.PRIVATE}
    return ModelFacts(name=ModelName.parse(name), **{**fields, **more})


def of_team(visibility: Visibility = Visibility.TEAM, **more: Any) -> ModelFacts:
    return facts("vision/tiny", owner_id=None, team_id=TEAM, visibility=visibility, **more)


def of_library(visibility: Visibility = Visibility.EVERYONE, **more: Any) -> ModelFacts:
    return facts("tiny", **{"owner_id": None, "visibility": visibility, **more})


def allowed(principal: Principal, model: ModelFacts) -> frozenset[Verb]:
    return frozenset(verb for verb in Verb if allows(principal, model, verb))


ADMIN = person(is_admin=True)
OPERATOR = person(site_role=SiteRole.OPERATOR)
AUDITOR = person(site_role=SiteRole.AUDITOR)


@pytest.mark.parametrize(
    ("principal", "model", "verbs"),
    [
        pytest.param(person(ALICE), facts(), ALL, id="own"),
        pytest.param(person(), facts(), NONE, id="another's"),
        pytest.param(ADMIN, facts(), NONE, id="another's for an admin"),
        pytest.param(OPERATOR, facts(), NONE, id="another's for an operator"),
        pytest.param(AUDITOR, facts(), NONE, id="another's for an auditor"),
        pytest.param(person(), facts(visibility=Visibility.EVERYONE), SHARED, id="shared"),
        pytest.param(ADMIN, facts(visibility=Visibility.EVERYONE), SHARED, id="shared, admin"),
        pytest.param(person(), of_library(), SHARED, id="library"),
        pytest.param(ADMIN, of_library(), ALL, id="library for an admin"),
        pytest.param(OPERATOR, of_library(), ALL, id="library for an operator"),
        pytest.param(person(), of_library(Visibility.PRIVATE), NONE, id="hidden in the library"),
        pytest.param(
            person(ALICE),
            of_library(Visibility.PRIVATE, owner_id=ALICE),
            NONE,
            id="once brought to the library",
        ),
        pytest.param(
            OPERATOR, of_library(Visibility.PRIVATE), ALL, id="hidden in the library, operator"
        ),
        pytest.param(person(), of_team(), NONE, id="a team's for a stranger"),
        pytest.param(ADMIN, of_team(), NONE, id="a team's for an admin"),
        pytest.param(person(role=TeamRole.VIEWER), of_team(), READ, id="viewer"),
        pytest.param(person(role=TeamRole.MEMBER), of_team(), SHARED, id="member"),
        pytest.param(person(role=TeamRole.MAINTAINER), of_team(), ALL, id="maintainer"),
        pytest.param(person(role=TeamRole.OWNER), of_team(), ALL, id="owner of the team"),
        pytest.param(
            person(role=TeamRole.MEMBER), of_team(Visibility.PRIVATE), NONE, id="hidden, member"
        ),
        pytest.param(
            person(role=TeamRole.MAINTAINER), of_team(Visibility.PRIVATE), ALL, id="hidden, maint."
        ),
        pytest.param(
            person(role=TeamRole.VIEWER), of_team(Visibility.EVERYONE), SHARED, id="shared, viewer"
        ),
    ],
)
def test_what_a_place_gives(
    principal: Principal, model: ModelFacts, verbs: frozenset[Verb]
) -> None:
    assert allowed(principal, model) == verbs


@pytest.mark.parametrize("granted", GRANTED_VERBS)
def test_grant_gives_what_its_verb_needs(granted: Verb) -> None:
    expected = {
        Verb.USE: {Verb.READ, Verb.USE},
        Verb.PULL: {Verb.READ, Verb.PULL},
        Verb.PUSH: {Verb.READ, Verb.PULL, Verb.PUSH},
        Verb.MANAGE: set(Verb),
    }
    model = facts(grants=(Grant(granted, user_id=BOB),))

    assert allowed(person(), model) == expected[granted]
    assert allowed(person(3), model) == NONE


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        (None, NONE),
        (TeamRole.VIEWER, READ),
        (TeamRole.MEMBER, frozenset({Verb.READ, Verb.USE})),
        (TeamRole.OWNER, frozenset({Verb.READ, Verb.USE})),
    ],
)
def test_grant_to_a_team_is_for_its_members(role: TeamRole | None, verbs: frozenset[Verb]) -> None:
    model = facts(grants=(Grant(Verb.USE, team_id=TEAM),))

    assert allowed(person(role=role), model) == verbs


def test_allow_list_narrows_what_everybody_may_use() -> None:
    narrowed = person(role=TeamRole.MEMBER, allowed_models=("other*",))

    assert allowed(narrowed, of_library()) == NONE
    assert allowed(narrowed, facts(visibility=Visibility.EVERYONE)) == NONE
    assert allowed(person(allowed_models=("ti*",)), of_library()) == SHARED


def test_allow_list_leaves_own_models_the_teams_and_what_was_granted() -> None:
    narrowed = person(role=TeamRole.MEMBER, allowed_models=("other*",))

    assert allowed(narrowed, facts(owner_id=BOB)) == ALL
    assert allowed(narrowed, of_team()) == SHARED
    assert Verb.USE in allowed(narrowed, facts(grants=(Grant(Verb.USE, user_id=BOB),)))


@pytest.mark.parametrize("model", [facts(owner_id=BOB), of_library(), of_team()])
def test_patterns_of_a_key_narrow_everything(model: ModelFacts) -> None:
    unlimited = person(role=TeamRole.OWNER)
    keyed = person(role=TeamRole.OWNER, model_patterns=("other*", "bob/*"))

    assert allowed(unlimited, model)
    assert allowed(keyed, model) == NONE


def test_key_for_one_tag_is_for_no_whole_model() -> None:
    keyed = person(ALICE, model_patterns=("alice/tiny:v1",))

    assert allowed(keyed, facts("alice/tiny:v1")) == ALL
    assert allowed(keyed, facts("alice/tiny:v2")) == NONE
    assert allowed(keyed, facts("alice/tiny:v1", is_whole=True)) == NONE


# ------------------------------------------------------------------ facts and rows

HOSTS: Final = [DEFAULT_HOST, DEFAULT_HOST, DEFAULT_HOST, "hub.lab:5000"]
MODELS: Final = ["tiny", "Tiny2", "llama3", "a_b", "llama-3.x"]
TAGS: Final = ["latest", "v1", "V2"]
PATTERNS: Final = [
    *("*", "tiny", "T*", "llama?", "*/*", "library/*", "user1/*", "team1/tiny", "a_b", "x"),
    *("hub.lab:5000/*/*", "*/*/*", "*:v1", "user2/*:v?", "llama-3.x:latest", "not one", "*:*"),
]


class World:
    """Users, teams, models of all kinds and grants, by chance; rows and facts of the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a seed, no secret
        self.users = [User.objects.create_user(f"user{number}") for number in range(1, 4)]
        self.teams = [Team.objects.create(name=f"team{number}") for number in range(1, 4)]
        self.tags: dict[int, ModelFacts] = {}
        self.models: dict[int, ModelFacts] = {}
        self.manifest = Manifest.objects.create(digest=f"{seed:064x}", body=b"")
        for number in range(60):
            self._add_model(number)

    def _add_model(self, number: int) -> None:
        pick = self.chance.choice
        owner, team = pick([*self.users, None]), pick([*self.teams, None])
        namespace = pick(["library", "Library", "user1", "user2", "team1", "team2"])
        host = pick(HOSTS)
        # The number makes names unlike; patterns with `*` reach them all the same.
        name = pick(MODELS) if number < 6 else f"{pick(MODELS)}{number}"
        row, is_new = LanguageModel.objects.get_or_create(
            host=host,
            namespace=namespace.lower() if number < 6 else namespace,
            name=name,
            defaults={
                "owner": owner,
                "team": None if owner else team,
                "visibility": pick(Visibility.values),
                "is_mirror": host != DEFAULT_HOST or self.chance.random() < 0.1,
            },
        )
        if not is_new:
            return
        grants = tuple({self._grant(row) for _ in range(pick([0, 0, 1, 2]))})
        for grant in grants:
            ModelGrant.objects.create(
                model=row, user_id=grant.user_id, team_id=grant.team_id, verb=str(grant.verb)
            )
        self.models[row.pk] = self._facts(row, grants, "latest", is_whole=True)
        for name in TAGS:
            tag = Tag.objects.create(
                model=row, name=name, manifest=self.manifest, modified_at=timezone.now()
            )
            self.tags[tag.pk] = self._facts(row, grants, name, is_whole=False)

    def _grant(self, row: LanguageModel) -> Grant:
        verb = self.chance.choice(list(GRANTED_VERBS))
        if self.chance.random() < 0.5:
            return Grant(verb, user_id=self.chance.choice(self.users).pk)
        return Grant(verb, team_id=self.chance.choice(self.teams).pk)

    def _facts(
        self, row: LanguageModel, grants: tuple[Grant, ...], tag: str, *, is_whole: bool
    ) -> ModelFacts:
        return ModelFacts(
            name=ModelName(row.name, tag, row.namespace, row.host),
            owner_id=row.owner_id,
            team_id=row.team_id,
            visibility=row.visibility,
            is_mirror=row.is_mirror,
            grants=grants,
            is_whole=is_whole,
        )

    def principal(self) -> Principal:
        pick = self.chance.choice
        user = pick(self.users)
        in_teams = self.chance.sample(self.teams, self.chance.randrange(4))
        return Principal(
            user_id=user.pk,
            username=user.username,
            is_admin=self.chance.random() < 0.15,
            kind=pick(list(CredentialKind)),
            scopes=frozenset(self.chance.sample(list(Scope), self.chance.randrange(3))),
            site_role=pick(list(SiteRole)),
            teams=tuple(TeamPlace(team.pk, team.name, pick(list(TeamRole))) for team in in_teams),
            model_patterns=self._patterns() if self.chance.random() < 0.5 else (),
            allowed_models=self._patterns() if self.chance.random() < 0.5 else None,
        )

    def _patterns(self) -> tuple[str, ...]:
        return tuple(self.chance.sample(PATTERNS, self.chance.randrange(1, 4)))


def judged(known: dict[int, ModelFacts], principal: Principal, verb: Verb) -> set[int]:
    return {key for key, model in known.items() if allows(principal, model, verb)}


def keys(rows: QuerySet[Any]) -> set[int]:
    return set(rows.values_list("pk", flat=True))


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_judged_as_their_facts_are(seed: int) -> None:
    world = World(seed)
    found = 0
    for _ in range(25):
        principal = world.principal()
        for verb in Verb:
            models = LanguageModel.objects.filter(
                model_access.may(principal, verb, model="", tag="")
            )
            tags = Tag.objects.filter(model_access.may(principal, verb))
            assert keys(models) == judged(world.models, principal, verb), (principal, verb)
            assert keys(tags) == judged(world.tags, principal, verb), (principal, verb)
            found += tags.count()

    assert found > 300


@pytest.mark.django_db
def test_whoever_may_do_anything_may_read() -> None:
    world = World(99)
    for _ in range(60):
        principal = world.principal()
        for model in world.tags.values():
            verbs = allowed(principal, model)
            assert not verbs or Verb.READ in verbs
