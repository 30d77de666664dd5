"""A namespace takes no more than it may hold, whichever way bytes come into it."""

import pytest
from pytest_django.fixtures import Settings

from models_app.errors import TagIsImmutable
from models_app.models import Tag, User
from models_app.namespaces import NamespaceRules, set_rules, stored_bytes
from models_app.permissions import Verb
from registry import library, quotas
from registry.blobs import BlobStore
from registry.create import CreateModel, create_model
from registry.errors import QuotaFull
from registry.progress import Progress
from tests.conftest import MakeModel, principal_for
from tests.registry.store_files import names_of

pytestmark = pytest.mark.django_db


def allow(owner: User, quota_bytes: int | None, *, immutable: str = "") -> None:
    set_rules(
        NamespaceRules(
            name=owner.username, quota_bytes=quota_bytes, immutable_tags=immutable, kept_tags=None
        )
    )


def test_without_a_quota_there_is_no_limit(alice: User) -> None:
    quotas.require_quota("alice", 2**60)


def test_quota_of_the_site_holds_for_all(alice: User, settings: Settings) -> None:
    settings.NAMESPACE_QUOTA_BYTES = 100
    quotas.require_quota("alice", 100)
    with pytest.raises(QuotaFull, match="the namespace 'alice' may hold 100 B at most"):
        quotas.require_quota("alice", 101)


def test_quota_of_a_namespace_goes_before_that_of_the_site(alice: User, settings: Settings) -> None:
    settings.NAMESPACE_QUOTA_BYTES = 100
    allow(alice, 200)
    quotas.require_quota("Alice", 200)


def test_model_that_does_not_fit_is_not_created(
    make_model: MakeModel, alice: User, store: BlobStore
) -> None:
    allow(alice, 1000)
    with pytest.raises(QuotaFull):
        make_model("mine", alice, system="Too much.")

    assert not Tag.objects.exists()
    assert len(names_of(store)) == 1  # what the test has put there


def test_full_namespace_is_told_before_any_work(make_model: MakeModel, alice: User) -> None:
    make_model("mine", alice)
    allow(alice, 1000)
    base = library.resolve(principal_for(alice), "mine", Verb.READ)
    wanted = CreateModel(name="small", principal=principal_for(alice), base=base, quantize="Q8_0")
    events: list[Progress] = []
    with pytest.raises(QuotaFull):
        create_model(wanted, report=events.append)

    assert events == []


def test_layers_that_a_namespace_has_take_no_more_room(make_model: MakeModel, alice: User) -> None:
    make_model("mine", alice)
    allow(alice, stored_bytes("alice") + 1000)
    base = library.resolve(principal_for(alice), "mine", Verb.READ)
    make_model("other", alice, base=base, system="Fits.")

    assert Tag.objects.count() == 2


def test_copy_that_does_not_fit_is_refused(make_model: MakeModel, alice: User) -> None:
    make_model("shared")
    allow(alice, 1000)
    with pytest.raises(QuotaFull):
        library.copy_model(principal_for(alice), "shared", "mine")


def test_copy_within_a_namespace_takes_no_room(make_model: MakeModel, alice: User) -> None:
    make_model("mine", alice)
    allow(alice, stored_bytes("alice"))
    library.copy_model(principal_for(alice), "mine", "mine:again")

    assert Tag.objects.count() == 2


def test_admin_does_not_fill_the_library_with_their_own_quota(
    make_model: MakeModel, admin: User
) -> None:
    allow(admin, 1)
    make_model("shared", admin)

    assert Tag.objects.get().model.namespace == "library"


def test_created_model_does_not_replace_an_immutable_tag(
    make_model: MakeModel, alice: User, store: BlobStore
) -> None:
    make_model("mine:v1", alice)
    before = names_of(store)
    allow(alice, None, immutable="v*")
    with pytest.raises(TagIsImmutable):
        make_model("mine:v1", alice, system="Another.")

    assert names_of(store) == before


def test_immutable_tag_is_not_deleted_by_its_owner(make_model: MakeModel, alice: User) -> None:
    make_model("mine:v1", alice)
    allow(alice, None, immutable="v*")
    with pytest.raises(TagIsImmutable):
        library.delete_model(principal_for(alice), "mine:v1")
