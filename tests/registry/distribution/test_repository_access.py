"""Who may read and who may write which repository, on every route of `/v2` but files."""

from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async

from models_app.errors import InsufficientScope, ModelNotFound
from models_app.keys import KeyRules, create_key
from models_app.models import LanguageModel, RepositoryBlob, User, Visibility
from models_app.permissions import CredentialKind, Principal, Scope
from registry import repositories, revisions
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import BlobInUse, NotYourModel
from registry.repositories import Action, find_repository, open_repository
from tests.conftest import principal_for
from tests.fakes.http import AsgiClient
from tests.registry.distribution.conftest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Caller,
    digest_of,
    encoded,
)

INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
DIGEST = digest_of(encoded(INDEX))
OTHER = {**INDEX, "annotations": {"a": "other"}}
READS = [
    ("GET", "manifests/v1"),
    ("HEAD", "manifests/v1"),
    ("GET", f"manifests/{DIGEST}"),
    ("GET", "tags/list"),
]
DELETES = [("DELETE", "manifests/v1"), ("DELETE", f"manifests/{DIGEST}")]
ANYTHING = [*READS, *DELETES, ("PUT", "manifests/v1"), ("GET", f"referrers/{DIGEST}")]
MISSING = "alice/missing"


@pytest.fixture
def others(other: Caller, administrator: Caller) -> list[Caller]:
    """Those who may not see what is Alice's."""
    return [other, administrator]


@pytest.mark.parametrize(("method", "what"), [*READS, *DELETES])
async def test_private_repository_answers_others_like_a_missing_one(
    owner: Caller, others: list[Caller], method: str, what: str
) -> None:
    await owner.put(INDEX, "v1")
    for other in others:
        hidden = await other.ask(method, what)
        missing = await other.about(MISSING).ask(method, what)
        assert (hidden.status, hidden.text) == (
            404,
            missing.text.replace("alice/missing", "alice/thing"),
        )
        assert hidden.json()["errors"][0]["code"] == "NAME_UNKNOWN"


async def test_others_may_not_push_whether_it_is_there_or_not(
    owner: Caller, others: list[Caller]
) -> None:
    await owner.put(INDEX, "v1")
    for other in others:
        answers = [await other.about(path).put(INDEX, "v1") for path in ("alice/thing", MISSING)]
        assert [answer.status for answer in answers] == [403, 403]
        assert answers[0].text == answers[1].text
    assert await LanguageModel.objects.acount() == 1


async def test_others_are_told_of_no_referrers(owner: Caller, others: list[Caller]) -> None:
    await owner.put({**OTHER, "subject": {"mediaType": "x/y", "digest": DIGEST, "size": 1}})
    assert len((await owner.ask("GET", f"referrers/{DIGEST}")).json()["manifests"]) == 1
    for other in others:
        assert (await other.ask("GET", f"referrers/{DIGEST}")).json()["manifests"] == []


async def test_catalog_has_what_one_may_see(
    owner: Caller, others: list[Caller], administrator: Caller
) -> None:
    await owner.put(INDEX, "v1")
    await administrator.about("library/all").put(INDEX, "v1")
    told = [(await one.client.get("/v2/_catalog")).json() for one in (owner, *others)]
    assert told == [
        {"repositories": ["alice/thing", "library/all"]},
        {"repositories": ["library/all"]},
        {"repositories": ["library/all"]},
    ]


@pytest.mark.parametrize("path", ["library/all", "alice/thing"])
async def test_what_everyone_sees_is_changed_by_its_owner_alone(
    owner: Caller, administrator: Caller, other: Caller, path: str
) -> None:
    writer = administrator.about(path) if path.startswith("library") else owner
    await writer.put(INDEX, "v1")
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    reader = other.about(path)
    reads = [(await reader.ask(*request)).status for request in READS]
    deletes = [(await reader.ask(*request)).status for request in DELETES]
    assert (reads, deletes) == ([200] * 4, [403] * 2)
    assert (await reader.put(OTHER, "v1")).status == 403
    assert (await writer.put(OTHER, "v1")).status == 201
    assert (await writer.ask("DELETE", "manifests/v1")).status == 202


@pytest.mark.parametrize(("method", "what"), ANYTHING)
async def test_stranger_is_asked_who_they_are(
    owner: Caller, stranger: Caller, method: str, what: str
) -> None:
    await owner.put(INDEX, "v1")
    answer = await stranger.ask(method, what, body=encoded(INDEX))
    assert answer.status == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert answer.headers["www-authenticate"].startswith('Bearer realm="http://localhost:11434/v2')


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog"])
async def test_stranger_is_asked_who_they_are_by_the_registry(stranger: Caller, path: str) -> None:
    answer = await stranger.client.get(path)
    assert answer.status == 401


async def test_key_that_only_reads_changes_nothing(owner: Caller, alice: User) -> None:
    await owner.put(INDEX, "v1")
    _, secret = await sync_to_async(create_key)(alice, "reads", KeyRules(scopes=(Scope.READ,)))
    reader = Caller(alice, owner.path, AsgiClient({"x-api-key": secret}))
    assert [(await reader.ask(*request)).status for request in READS] == [200] * 4
    assert [(await reader.ask(*request)).status for request in DELETES] == [403] * 2
    assert (await reader.put(OTHER, "v1")).status == 403


# ------------------------------------------------------------------ tokens and use cases


def token_for(user: User, *granted: str) -> Principal:
    return replace(
        principal_for(user), kind=CredentialKind.REGISTRY_TOKEN, granted=frozenset(granted)
    )


@pytest.mark.parametrize("action", Action)
@pytest.mark.django_db
def test_token_is_for_what_it_was_asked_for(alice: User, action: Action) -> None:
    open_repository(principal_for(alice), "alice/thing")
    granted = token_for(alice, f"repository:ALICE/thing:{action}")
    assert find_repository(granted, "alice/Thing", action).path == "alice/thing"
    for other in set(Action) - {action}:
        with pytest.raises(InsufficientScope):
            find_repository(granted, "alice/thing", other)
    with pytest.raises(InsufficientScope):
        find_repository(granted, "alice/other", action)


@pytest.mark.django_db
def test_token_for_pulling_opens_no_repository(alice: User) -> None:
    with pytest.raises(InsufficientScope):
        open_repository(token_for(alice, "repository:alice/thing:pull"), "alice/thing")
    assert not LanguageModel.objects.exists()


@pytest.mark.django_db
def test_token_lists_repositories_where_it_is_for_that(alice: User) -> None:
    assert revisions.list_repositories(token_for(alice, "registry:catalog:*")) == []
    with pytest.raises(InsufficientScope):
        revisions.list_repositories(token_for(alice, "repository:alice/thing:pull"))


@pytest.mark.django_db
def test_token_for_anything_shows_nobody_elses(alice: User, bob: User) -> None:
    open_repository(principal_for(alice), "alice/thing")
    granted = token_for(bob, *(f"repository:alice/thing:{action}" for action in Action))
    with pytest.raises(ModelNotFound):
        find_repository(granted, "alice/thing", Action.PULL)
    with pytest.raises(NotYourModel):
        open_repository(granted, "alice/thing")


@pytest.mark.django_db
def test_mirror_of_the_name_is_read_and_not_pushed_to(alice: User, bob: User) -> None:
    LanguageModel.objects.create(
        namespace="alice", name="thing", owner=bob, is_mirror=True, visibility=Visibility.EVERYONE
    )
    principal = principal_for(alice)
    mirror = find_repository(principal, "alice/thing", Action.PULL)
    with pytest.raises(ModelNotFound):
        find_repository(principal, "alice/thing", Action.DELETE)
    assert open_repository(principal, "alice/thing").model_id != mirror.model_id
    assert find_repository(principal, "alice/thing", Action.PULL).model_id != mirror.model_id


@pytest.mark.django_db
def test_repository_is_opened_once_in_any_spelling(alice: User, admin: User) -> None:
    first = open_repository(principal_for(alice), "Alice/Thing")
    second = open_repository(principal_for(alice), "alice/thing")
    assert (second, second.path, second.namespace) == (first, "Alice/Thing", "Alice")
    library = open_repository(principal_for(admin), "library/all")
    assert LanguageModel.objects.get(pk=library.model_id).visibility == Visibility.EVERYONE


@pytest.mark.django_db
def test_file_is_in_the_repository_it_was_linked_to(alice: User, store: BlobStore) -> None:
    principal, digest = principal_for(alice), store.write_bytes(b"12345").digest
    one, other = (open_repository(principal, f"alice/{name}") for name in ("one", "other"))
    repositories.link_blob(one, digest, 5)
    repositories.link_blob(one, digest, 5)
    assert repositories.blob_size(one, digest) == 5
    assert repositories.blob_size(other, digest) is None
    assert [repositories.unlink_blob(one, digest) for _ in range(2)] == [True, False]
    assert repositories.blob_size(one, digest) is None


@pytest.mark.django_db
def test_file_that_the_disk_has_lost_is_not_there(alice: User, store: BlobStore) -> None:
    digest = store.write_bytes(b"12345").digest
    repository = open_repository(principal_for(alice), "alice/thing")
    repositories.link_blob(repository, digest, 5)
    store.path(digest).unlink()
    assert repositories.blob_size(repository, digest) is None


@pytest.mark.django_db
def test_nothing_is_linked_to_a_repository_that_is_gone(alice: User, store: BlobStore) -> None:
    repository = open_repository(principal_for(alice), "alice/thing")
    LanguageModel.objects.all().delete()
    with pytest.raises(ModelNotFound):
        repositories.link_blob(repository, store.write_bytes(b"12345").digest, 5)
    assert not RepositoryBlob.objects.exists()


async def test_file_that_a_manifest_needs_is_not_let_go_of(owner: Caller, alice: User) -> None:
    config = await owner.add(b"{}")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    await owner.put(document, "v1")
    digest = Digest.parse(config["digest"])

    def unlink() -> bool:
        repository = find_repository(principal_for(alice), owner.path, Action.DELETE)
        return repositories.unlink_blob(repository, digest)

    with pytest.raises(BlobInUse):
        await sync_to_async(unlink)()
    await owner.ask("DELETE", f"manifests/{digest_of(encoded(document))}")
    assert await sync_to_async(unlink)()
