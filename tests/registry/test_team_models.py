"""Models of teams, grants, and keys for some models: what resolves, and what may be written."""

from typing import Any

import pytest

from models_app import namespaces, selectors
from models_app.errors import ModelNotFound
from models_app.grants import AccessChange, Granted, change_access
from models_app.models import LanguageModel, Membership, Team, User, Visibility
from models_app.names import ModelName
from models_app.permissions import Principal, SiteRole, Verb
from models_app.services import copy_tag
from ollamasite.errors import Forbidden, ServiceError
from registry import library, storage
from registry.create_request import CreateRequest, create
from registry.digest import Digest
from registry.errors import BlobNotFound, CopySourceNotFound, NotYourModel, QuotaFull
from registry.jobs import submit
from registry.jobs.asking import ask_create, ask_verify
from registry.progress import ignore
from tests.conftest import MakeModel, principal_for
from tests.registry.team_cast import TEAM, TeamCast, make_as, make_cast, seen

pytestmark = pytest.mark.django_db
NAME = f"{TEAM}/tiny"


@pytest.fixture
def cast(alice: User, bob: User, mallory: User, admin: User) -> TeamCast:
    return make_cast(alice, bob, mallory, admin)


@pytest.fixture
def common(make_model: MakeModel) -> str:
    """A model of the library."""
    return make_model("common")


@pytest.fixture
def of_team(cast: TeamCast, common: str) -> str:
    """The team's model."""
    return make_as(cast.maintainer, NAME, base=common, system="Of the team.")


@pytest.fixture
def private(cast: TeamCast, make_model: MakeModel) -> str:
    """Alice's own."""
    return make_model("secret", cast.maintainer, system="Alice's words.")


def give(name: str, to: str, verb: Verb) -> None:
    change_access(ModelName.parse(name), AccessChange(add=(Granted(to, verb),)), by=None)


def outcome(principal: Principal, name: str, verb: Verb) -> str:
    try:
        library.resolve(principal, name, verb)
    except ServiceError as error:
        return error.code
    return "allowed"


def names_for(principal: Principal) -> set[str]:
    return {model.name for model in library.list_models(principal)}


def create_from(principal: Principal, base: str, name: str = "mine") -> ModelName:
    return create(principal, CreateRequest(name=name, base_name=base, system="x"), ignore)


# ------------------------------------------------------------------ a team's models


def test_model_in_a_teams_namespace_is_the_teams(cast: TeamCast, of_team: str) -> None:
    row = LanguageModel.objects.get(namespace=TEAM)

    assert (row.team, row.owner, row.visibility) == (cast.team, None, Visibility.TEAM)


@pytest.mark.parametrize(
    ("who", "verbs"),
    [
        ("maintainer", {"read", "use", "pull", "push", "manage"}),
        ("member", {"read", "use", "pull"}),
        ("viewer", {"read"}),
    ],
)
def test_role_decides_what_one_may_do(
    cast: TeamCast, of_team: str, who: str, verbs: set[str]
) -> None:
    principal = seen(getattr(cast, who))
    outcomes = {str(verb): outcome(principal, NAME, verb) for verb in Verb}

    assert outcomes == {
        str(verb): "allowed" if verb in verbs else "not_your_model" for verb in Verb
    }
    assert of_team in names_for(principal)


@pytest.mark.parametrize("who", ["stranger", "admin"])
@pytest.mark.parametrize("verb", Verb)
def test_teams_model_is_not_there_for_others(
    cast: TeamCast, of_team: str, who: str, verb: Verb
) -> None:
    principal = seen(getattr(cast, who))

    assert outcome(principal, NAME, verb) == outcome(principal, "vision/no", verb)
    assert outcome(principal, NAME, verb) == "model_not_found"
    assert of_team not in names_for(principal)


def test_whoever_has_left_the_team_has_left_its_models(cast: TeamCast, of_team: str) -> None:
    Membership.objects.filter(user=cast.maintainer).delete()

    assert outcome(seen(cast.maintainer), NAME, Verb.READ) == "model_not_found"


@pytest.mark.parametrize("who", ["member", "viewer", "stranger", "admin"])
@pytest.mark.parametrize("name", ["tiny", "new"])
def test_only_maintainers_write_to_the_namespace(
    cast: TeamCast, of_team: str, common: str, who: str, name: str
) -> None:
    with pytest.raises(NotYourModel):
        make_as(getattr(cast, who), f"{TEAM}/{name}", base=common)


def test_any_maintainer_overwrites_and_deletes(cast: TeamCast, of_team: str, common: str) -> None:
    Membership.objects.filter(user=cast.member).update(role="maintainer")
    make_as(cast.member, NAME, base=common, system="newer")
    library.delete_model(seen(cast.member), NAME)

    assert not LanguageModel.objects.filter(namespace=TEAM).exists()


def test_member_does_not_delete(cast: TeamCast, of_team: str) -> None:
    with pytest.raises(NotYourModel):
        library.delete_model(seen(cast.member), NAME)


def test_spelling_of_the_namespace_does_not_matter(cast: TeamCast, common: str) -> None:
    make_as(cast.maintainer, "VISION/tiny", base=common)

    assert outcome(seen(cast.member), NAME, Verb.USE) == "allowed"


def test_bytes_are_the_teams(cast: TeamCast, of_team: str) -> None:
    assert namespaces.stored_bytes(TEAM) > 0
    assert namespaces.stored_bytes("alice") == 0


def test_teams_quota_holds_for_whoever_writes(cast: TeamCast, common: str) -> None:
    rules = namespaces.NamespaceRules(name=TEAM, quota_bytes=1, immutable_tags="", kept_tags=None)
    namespaces.set_rules(rules)
    with pytest.raises(QuotaFull):
        make_as(cast.maintainer, NAME, base=common)


@pytest.mark.parametrize(
    ("who", "expected"), [("maintainer", ["alice", TEAM]), ("member", ["bob"])]
)
def test_storage_tells_of_the_teams_one_writes_to(
    cast: TeamCast, who: str, expected: list[str]
) -> None:
    told = storage.own_namespaces(seen(getattr(cast, who)))

    assert [use.namespace for use in told] == expected


def test_models_go_with_their_team(cast: TeamCast, of_team: str) -> None:
    Team.objects.all().delete()

    assert not LanguageModel.objects.filter(namespace=TEAM).exists()


def test_teams_name_is_no_other_registrys(cast: TeamCast) -> None:
    name = ModelName.parse("Vision/new")

    assert not selectors.is_mirror_name(name)
    assert library.pull_target(seen(cast.maintainer), name) == name
    with pytest.raises(NotYourModel):
        library.pull_target(seen(cast.stranger), name)


def test_model_from_before_the_team_is_not_the_teams(cast: TeamCast, make_model: MakeModel) -> None:
    olga = User.objects.create_user("olga")
    make_model("old", olga)
    olga.delete()
    team = Team.objects.create(name="olga")
    Membership.objects.create(team=team, user=cast.maintainer, role="owner")
    principal = seen(cast.maintainer)

    assert outcome(principal, "olga/old", Verb.READ) == "model_not_found"
    with pytest.raises(NotYourModel):
        library.write_target(principal, ModelName.parse("olga/old"))


# ------------------------------------------------------------------ what each act needs


@pytest.mark.parametrize("who", ["stranger", "admin"])
@pytest.mark.parametrize("verb", Verb)
def test_private_model_is_its_owners_alone(
    cast: TeamCast, private: str, who: str, verb: Verb
) -> None:
    assert outcome(seen(getattr(cast, who)), private, verb) == "model_not_found"


def test_use_is_not_enough_to_take_the_files(cast: TeamCast, private: str) -> None:
    give(private, "mallory", Verb.USE)
    principal = seen(cast.stranger)
    weights = library.resolve(principal, private, Verb.USE).weights

    with pytest.raises(NotYourModel, match="may not copy or download"):
        create_from(principal, private)
    with pytest.raises(NotYourModel):
        library.copy_model(principal, private, "mine")
    with pytest.raises(NotYourModel):
        library.stored_manifest(principal, private)
    with pytest.raises(BlobNotFound):
        create(principal, CreateRequest(name="mine", files={"x.gguf": Digest(weights)}), ignore)


def test_whoever_may_pull_may_copy_and_not_use(cast: TeamCast, private: str) -> None:
    give(private, "mallory", Verb.PULL)
    principal = seen(cast.stranger)
    library.copy_model(principal, private, "copied")
    create_from(principal, private)

    assert {"mallory/copied:latest", "mallory/mine:latest", private} <= names_for(principal)
    assert outcome(principal, private, Verb.USE) == "not_your_model"


def test_hidden_source_of_a_copy_is_one_that_is_not_there(cast: TeamCast, private: str) -> None:
    with pytest.raises(CopySourceNotFound):
        library.copy_model(seen(cast.stranger), private, "mine")


def test_viewer_of_a_team_takes_no_files(cast: TeamCast, of_team: str) -> None:
    with pytest.raises(NotYourModel):
        create_from(seen(cast.viewer), of_team)


def test_whoever_may_manage_writes_over_it_and_it_stays_its_owners(
    cast: TeamCast, private: str, common: str
) -> None:
    give(private, "mallory", Verb.MANAGE)
    library.copy_model(seen(cast.stranger), common, private)
    row = LanguageModel.objects.get(name="secret")

    assert (row.owner, row.visibility) == (cast.maintainer, Visibility.PRIVATE)
    assert library.resolve(seen(cast.maintainer), private, Verb.READ).system == ""


def test_whoever_may_push_does_not_copy_over(cast: TeamCast, private: str, common: str) -> None:
    give(private, "mallory", Verb.PUSH)
    with pytest.raises(NotYourModel):
        library.copy_model(seen(cast.stranger), common, private)


def test_what_is_gone_is_not_brought_back_for_its_owner(
    cast: TeamCast, private: str, common: str
) -> None:
    digest = library.resolve(seen(cast.stranger), common, Verb.READ).digest
    library.delete_model(seen(cast.maintainer), private)
    with pytest.raises(ModelNotFound):
        copy_tag(digest, ModelName.parse(private), owner_id=cast.stranger.pk)


def test_operator_writes_to_the_library_and_opens_nobodys_models(
    cast: TeamCast, common: str, private: str
) -> None:
    User.objects.filter(pk=cast.stranger.pk).update(site_role=SiteRole.OPERATOR)
    cast.stranger.refresh_from_db()
    principal = seen(cast.stranger)
    library.copy_model(principal, common, "another")

    assert "another:latest" in names_for(seen(cast.viewer))
    assert outcome(principal, private, Verb.READ) == "model_not_found"


# ------------------------------------------------------------------ allow-lists and keys


def test_list_of_a_team_narrows_the_library_for_its_members(
    cast: TeamCast, common: str, of_team: str, make_model: MakeModel
) -> None:
    make_model("llama3")
    Team.objects.update(allowed_models="llama* qwen3:*")
    principal = seen(cast.member)

    assert names_for(principal) == {"llama3:latest", of_team}
    assert outcome(principal, common, Verb.USE) == "model_not_found"
    assert common in names_for(seen(cast.stranger))


def test_key_for_some_models_sees_and_uses_only_those(
    cast: TeamCast, common: str, private: str, of_team: str
) -> None:
    principal = seen(cast.maintainer, model_patterns=(f"{TEAM}/*",))

    assert names_for(principal) == {of_team}
    for name in (common, private):
        assert outcome(principal, name, Verb.USE) == "model_not_found"
        with pytest.raises(CopySourceNotFound):
            library.copy_model(principal, name, f"{TEAM}/copied")


@pytest.mark.parametrize(
    "name", ["mine", "alice/mine", "common", "elsewhere/model", "hub.lab/a/b", f"{TEAM}/tiny:v2"]
)
def test_key_for_some_models_writes_no_others(cast: TeamCast, of_team: str, name: str) -> None:
    limits: dict[str, Any] = {"model_patterns": (f"{TEAM}/tiny:v1",)}
    with pytest.raises(NotYourModel, match="you may not write to the namespace"):
        library.pull_target(seen(cast.maintainer, **limits), ModelName.parse(name))

    target = library.pull_target(seen(cast.maintainer, **limits), ModelName.parse(f"{NAME}:v1"))
    assert target.tag == "v1"


def test_key_for_a_library_model_passes_over_the_own_one_of_its_name(
    cast: TeamCast, common: str, make_model: MakeModel
) -> None:
    make_model("common", cast.maintainer)
    unlimited, keyed = seen(cast.maintainer), seen(cast.maintainer, model_patterns=("com*",))

    assert library.resolve(unlimited, "common", Verb.USE).name == "alice/common:latest"
    assert library.resolve(keyed, "common", Verb.USE).name == "common:latest"


def test_job_reaches_no_further_than_the_key_it_was_asked_with(
    cast: TeamCast, private: str, common: str
) -> None:
    principal = seen(cast.maintainer, model_patterns=("alice/made",))
    wanted = CreateRequest(name="alice/made", base_name=private, system="x")
    job = ask_create(principal, wanted, is_detached=True)
    ended = submit.find(seen(cast.maintainer), job.job_id)

    assert (ended.state, (ended.error or {})["code"]) == ("failed", "model_not_found")


def test_key_for_some_models_does_not_see_jobs_about_others(cast: TeamCast, common: str) -> None:
    wanted = CreateRequest(name="alice/made", base_name=common, system="x")
    job = ask_create(seen(cast.maintainer), wanted, is_detached=True)
    keyed = seen(cast.maintainer, model_patterns=("alice/other",))

    with pytest.raises(ServiceError, match="not found"):
        submit.find(keyed, job.job_id)


def test_operator_looks_after_all_jobs(cast: TeamCast, common: str) -> None:
    job = ask_create(seen(cast.maintainer), CreateRequest(name="m", base_name=common, system="x"))
    operator = seen(cast.stranger, site_role=SiteRole.OPERATOR)

    assert submit.find(operator, job.job_id).owner_name == "alice"
    assert ask_verify(operator).kind == "verify"
    with pytest.raises(Forbidden):
        ask_verify(principal_for(cast.member))
