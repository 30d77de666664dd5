"""The pages of API keys: the list, another key, one key and what is done to it."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from models_app import ledger_sums
from models_app.auth import Credentials, authenticate
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.limit_rules import NewLimit, limit_new_key
from models_app.models import ApiKey, LedgerEntry, LimitRule, User
from models_app.permissions import Scope, TeamRole
from models_app.teams import create_service_account, create_team, set_member
from tests.pages.catalogue import STARTER, add_model
from tests.pages.test_signin import csrf_token

pytestmark = pytest.mark.django_db
SECRET = re.compile(r"osk-[0-9a-f]{12}-[0-9a-f]{48}")
HOSTILE = '<script>alert(1)</script>"\u202e'


def words(page: Any) -> str:
    """Return what a page says, without its markup."""
    text = re.sub(r"<[^>]+>", " ", page.content.decode())
    return " ".join(html.unescape(text).split())


def fill(client: Client, path: str, *, at: str = "", **fields: Any) -> Any:
    """Send a form of a page, as a browser would."""
    token = csrf_token(client.get(at or path))
    return client.post(path, {"csrfmiddlewaretoken": token, **fields})


def new_key(client: Client, **fields: Any) -> Any:
    typed = {"name": "laptop", "expires": "90", "reach": "use"} | fields
    return fill(client, "/keys/new", **typed)


@pytest.fixture
def vision(bob: User) -> str:
    """A team with a service account, which bob maintains."""
    create_team("vision", by=None)
    set_member("vision", "bob", TeamRole.MAINTAINER, by=None)
    create_service_account("vision", "robot", by=None)
    return "vision"


def use(key: ApiKey, *, tokens: int = 120, at: datetime | None = None) -> None:
    """Have a key been used."""
    first, *others = (
        LedgerEntry(
            began_at=at or timezone.now(),
            user_id=key.owner_id,
            key_id=key.pk,
            key_name=key.name,
            model_name="m",
            dialect="native",
        )
        for _ in range(3)
    )
    first.tokens_in, first.tokens_out = tokens // 2, tokens - tokens // 2
    ledger_sums.add_up([first, *others])


# ------------------------------------------------------------------ the list


def test_stranger_is_sent_to_the_sign_in_page(browser: Client) -> None:
    assert browser.get("/keys")["Location"] == "/signin?next=%2Fkeys"


def test_whoever_has_no_key_is_told_how_to_make_one(as_bob: Client) -> None:
    page = as_bob.get("/keys")

    assert "You have no key yet" in words(page)
    assert 'href="/keys/new"' in page.content.decode()


def test_list_tells_what_each_key_is_for_and_what_it_was_used_for(
    as_bob: Client, bob: User
) -> None:
    rules = KeyRules(scopes=(Scope.READ, Scope.USE), models=("llama*",), networks=("10.0.0.0/8",))
    key, _ = create_key(bob, "laptop", rules)
    limit_new_key(None, key, [NewLimit(unit="tokens", period="day", amount=5000)])
    ApiKey.objects.filter(pk=key.pk).update(
        last_used_at=timezone.now(), last_used_address="192.0.2.7"
    )
    use(key, tokens=120)
    shown = words(as_bob.get("/keys"))

    assert f"laptop active osk-{key.prefix}-…" in shown
    assert "see models, use models models: llama* from: 10.0.0.0/8 5,000 tokens a day" in shown
    assert "from 192.0.2.7" in shown
    assert "3 requests, 120 tokens" in shown


def test_last_months_use_is_not_this_months(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    use(key, at=timezone.now() - timedelta(days=32))

    assert "120 tokens" not in words(as_bob.get("/keys"))


def test_each_state_is_told(as_bob: Client, bob: User) -> None:
    now = timezone.now()
    create_key(bob, "soon", KeyRules(expires_at=now + timedelta(days=2)))
    create_key(bob, "over", KeyRules(expires_at=now - timedelta(days=2)))
    revoke_key(create_key(bob, "gone")[0])
    shown = words(as_bob.get("/keys"))

    assert "soon expires soon" in shown
    assert "Keys that have ended 2" in shown
    assert "over expired" in shown
    assert "gone revoked" in shown


def test_keys_of_others_are_not_shown(as_bob: Client, alice: User) -> None:
    create_key(alice, "the key of Alice")

    assert "Alice" not in words(as_bob.get("/keys"))


def test_keys_of_service_accounts_are_shown_to_who_maintains_them(
    as_bob: Client, vision: str
) -> None:
    create_key(User.objects.get(username="robot"), "nightly")
    assert "of robot , team vision" in words(as_bob.get("/keys"))

    set_member(vision, "bob", TeamRole.MEMBER, by=None)
    assert "robot" not in words(as_bob.get("/keys"))


def test_names_are_text(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, HOSTILE)

    for path in ("/keys", f"/keys/{key.prefix}"):
        assert "<script>alert" not in as_bob.get(path).content.decode()


@pytest.mark.parametrize("count", [1, 30])
def test_number_of_queries_does_not_grow_with_the_keys(
    as_bob: Client,
    bob: User,
    count: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(count):
        key, _ = create_key(bob, f"key {number}")
        limit_new_key(None, key, [NewLimit(unit="tokens", period="day", amount=5000)])
        use(key)
    as_bob.get("/keys")
    with django_assert_num_queries(8):
        as_bob.get("/keys")


# ------------------------------------------------------------------ another key


def test_secret_is_shown_once_with_code_that_has_it(as_bob: Client, bob: User) -> None:
    add_model(STARTER)
    page = new_key(as_bob)
    [secret] = set(SECRET.findall(page.content.decode()))
    key = ApiKey.objects.get(owner=bob)

    assert page.status_code == 201
    assert "no-store" in page["Cache-Control"]
    assert f"export OLLAMASITE_API_KEY={secret}" in words(page)
    assert STARTER in words(page)
    assert authenticate(Credentials(key=secret)).user_id == bob.pk
    for path in ("/keys", f"/keys/{key.prefix}"):
        assert not SECRET.search(as_bob.get(path).content.decode())
    assert secret not in str(dict(as_bob.session))


def test_key_is_narrowed_as_was_chosen(as_bob: Client, bob: User) -> None:
    add_model(STARTER)
    new_key(
        as_bob,
        reach="chosen",
        scopes=["read", "write"],
        models=[STARTER],
        patterns="llama*, bob/*",
        networks="10.1.2.3/8 192.0.2.7",
        tokens_day="5000",
        parallel="2",
    )
    key = ApiKey.objects.get(owner=bob)

    assert key.scopes == ["read", "write"]
    assert key.model_patterns == [STARTER, "llama*", "bob/*"]
    assert key.networks == ["10.0.0.0/8", "192.0.2.7/32"]
    assert {(rule.unit, rule.period, rule.amount) for rule in LimitRule.objects.all()} == {
        ("tokens", "day", 5000),
        ("parallel", "", 2),
    }
    assert key.expires_at is not None
    assert timedelta(days=89) < key.expires_at - timezone.now() < timedelta(days=91)


@pytest.mark.parametrize(
    ("reach", "scopes"),
    [("use", ["read", "use"]), ("write", ["read", "use", "write"]), ("all", [])],
)
def test_presets_are_scopes(as_bob: Client, bob: User, reach: str, scopes: list[str]) -> None:
    new_key(as_bob, reach=reach, expires="never")
    key = ApiKey.objects.get(owner=bob)

    assert (key.scopes, key.expires_at) == (scopes, None)


def test_key_expires_at_the_end_of_a_chosen_day(as_bob: Client, bob: User) -> None:
    day = timezone.localdate() + timedelta(days=3)
    new_key(as_bob, expires="day", expires_on=day.isoformat())

    expires_at = ApiKey.objects.get(owner=bob).expires_at
    assert expires_at is not None
    assert timezone.localdate(expires_at) == day


@pytest.mark.parametrize(
    ("fields", "sentence", "begins_at"),
    [
        ({"name": ""}, "Give the key a name.", "name"),
        ({"name": "x" * 101}, "at most 100 characters", "name"),
        ({"expires": "day"}, "Choose the day.", "expires_on"),
        ({"expires": "day", "expires_on": "2020-01-01"}, "is not over", "expires_on"),
        ({"expires": "day", "expires_on": "9999-12-31"}, "next hundred years", "expires_on"),
        ({"reach": "chosen"}, "Choose at least one.", "scopes"),
        ({"patterns": "a//b"}, "is no pattern of model names", "patterns"),
        ({"networks": "10.0.0.0/99"}, "is no network", "networks"),
        ({"tokens_day": "0"}, "greater than or equal to 1", "tokens_day"),
        ({"reach": "root"}, "Select a valid choice", "reach"),
        ({"name": "a\x00b"}, "Null characters", "name"),
    ],
)
def test_what_is_wrong_stands_beside_the_field_with_what_was_typed(
    as_bob: Client, fields: dict[str, str], sentence: str, begins_at: str
) -> None:
    page = new_key(as_bob, **{"name": "my <b> laptop", "patterns": "llama*"} | fields)
    text = page.content.decode()

    assert page.status_code == 400
    assert sentence in words(page)
    assert re.search(rf'name="{begins_at}"[^>]*autofocus', text)
    if "name" not in fields:
        assert 'value="my &lt;b&gt; laptop"' in text
    assert not ApiKey.objects.exists()


def test_key_for_a_service_account_is_made_by_its_maintainer(as_bob: Client, vision: str) -> None:
    assert "robot (vision)" in words(as_bob.get("/keys/new"))
    assert new_key(as_bob, owner="robot").status_code == 201
    assert ApiKey.objects.get().owner.username == "robot"


def test_key_for_somebody_else_is_refused(as_bob: Client, alice: User, vision: str) -> None:
    page = new_key(as_bob, owner="alice")

    assert page.status_code == 400
    assert not ApiKey.objects.exists()


# ------------------------------------------------------------------ one key


def test_page_of_a_key_tells_its_use_by_day(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    now = timezone.now()
    use(key, tokens=120, at=now)
    use(key, tokens=80, at=now - timedelta(days=1))
    page = as_bob.get(f"/keys/{key.prefix}")

    assert f"{now.astimezone(UTC).date()} 3 120" in words(page)
    assert page.content.decode().count("<rect") == 30


@pytest.mark.parametrize("act", ["rename", "rotate", "revoke"])
def test_key_of_another_is_like_one_that_is_not_there(
    as_bob: Client, alice: User, act: str
) -> None:
    key, _ = create_key(alice, "hers")
    fields = {"at": "/keys/new", "name": "x", "overlap": "0"}
    theirs = fill(as_bob, f"/keys/{key.prefix}/{act}", **fields)
    nobodys = fill(as_bob, f"/keys/{'0' * 12}/{act}", **fields)

    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert words(theirs) == words(nobodys)
    assert as_bob.get(f"/keys/{key.prefix}").status_code == 404
    key.refresh_from_db()
    assert (key.name, key.revoked_at, key.successor) == ("hers", None, None)


def test_key_is_renamed(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    path = f"/keys/{key.prefix}"
    answer = fill(as_bob, f"{path}/rename", at=path, name="desk")

    assert answer["Location"] == path
    assert "The key is called desk now." in words(as_bob.get(path))


def test_empty_name_is_told(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    path = f"/keys/{key.prefix}"
    page = fill(as_bob, f"{path}/rename", at=path, name=" ")

    assert page.status_code == 400
    assert "Give the key a name." in words(page)


def test_rotated_key_is_good_as_long_as_was_chosen(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    path = f"/keys/{key.prefix}"
    page = fill(as_bob, f"{path}/rotate", at=path, overlap="1")
    [secret] = set(SECRET.findall(page.content.decode()))
    key.refresh_from_db()

    assert page.status_code == 201
    assert "no-store" in page["Cache-Control"]
    assert key.successor is not None
    assert secret.startswith(f"osk-{key.successor.prefix}-")
    assert key.expires_at is not None
    assert timedelta(minutes=59) < key.expires_at - timezone.now() < timedelta(minutes=61)
    assert "Another secret has taken its place" in words(as_bob.get(path))
    assert f"{path}/rotate" not in as_bob.get(path).content.decode()
    assert fill(as_bob, f"{path}/rotate", at=path, overlap="1").status_code == 400


def test_key_is_revoked_with_its_successor_or_without(as_bob: Client, bob: User) -> None:
    for keeps, is_good in (({}, False), ({"keep_successors": "1"}, True)):
        key, _ = create_key(bob, "laptop")
        path = f"/keys/{key.prefix}"
        fill(as_bob, f"{path}/rotate", at=path, overlap="24")
        assert fill(as_bob, f"{path}/revoke", at=path, **keeps)["Location"] == path
        key.refresh_from_db()
        assert key.revoked_at is not None
        assert key.successor is not None
        assert (key.successor.revoked_at is None) is is_good
        assert "nothing is answered to it" in words(as_bob.get(path))


def test_administrator_sees_and_revokes_a_key_and_does_nothing_else(
    as_alice: Client, bob: User
) -> None:
    key, _ = create_key(bob, "laptop")
    path = f"/keys/{key.prefix}"
    page = as_alice.get(path)

    assert "of bob" in words(page)
    assert f"{path}/rename" not in page.content.decode()
    assert fill(as_alice, f"{path}/rename", at=path, name="x").status_code == 403
    assert fill(as_alice, f"{path}/rotate", at=path, overlap="0").status_code == 403
    assert fill(as_alice, f"{path}/revoke", at=path).status_code == 302


def test_nothing_is_changed_by_a_link_or_without_the_forms_token(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")

    for act in ("rename", "rotate", "revoke"):
        assert as_bob.get(f"/keys/{key.prefix}/{act}").status_code == 405
        assert as_bob.post(f"/keys/{key.prefix}/{act}", {"name": "x"}).status_code == 403
    assert as_bob.post("/keys/new", {"name": "x"}).status_code == 403
    assert ApiKey.objects.get().revoked_at is None


def test_api_key_opens_no_page_of_keys(browser: Client, bob: User) -> None:
    _, secret = create_key(bob, "all that Bob may")

    assert browser.get("/keys", headers={"authorization": f"Bearer {secret}"}).status_code == 403
