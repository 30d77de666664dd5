"""What is done on the pages under /admin/: each act does it, and the audit has it."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, RequestFactory

from models_app.admin import site
from models_app.admin.panel import Panel
from models_app.invites import create_invite
from models_app.key_secrets import hash_secret
from models_app.keys import create_key
from models_app.models import (
    ApiKey,
    AuditEntry,
    Invite,
    LanguageModel,
    LimitRule,
    Membership,
    Team,
    User,
)
from models_app.permissions import CredentialKind, SiteRole
from models_app.principals import principal_of_user
from tests.models_app.admin_pages import HOME, address_of, browser_of, staff, text_of
from tests.models_app.people_cast import make_team, recorded

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(admin: User) -> Client:
    return browser_of(admin)


def refreshed(user: User) -> User:
    return User.objects.get(pk=user.pk)


def test_new_user_gets_a_link_that_is_shown_once(browser: Client) -> None:
    answer = browser.post(address_of("user", "new"), {"name": "eve", "site_role": "auditor"})

    assert "http://testserver/password/" in text_of(answer)
    assert "no-store" in answer["Cache-Control"]
    assert User.objects.get(username="eve").site_role == SiteRole.AUDITOR
    assert ("root", "eve") in recorded("user.create")
    assert "/password/" not in str(list(AuditEntry.objects.values()))


def test_name_that_is_taken_is_said_to_be(browser: Client, bob: User) -> None:
    answer = browser.post(address_of("user", "new"), {"name": "BOB", "site_role": ""})

    assert answer.status_code == 200
    assert "taken" in text_of(answer) or "already" in text_of(answer)
    assert User.objects.filter(username__iexact="bob").count() == 1


def test_roles_are_changed(browser: Client, bob: User) -> None:
    answer = browser.post(address_of("user", "roles", bob), {"site_role": "operator"})

    assert answer["Location"] == f"{HOME}/user/{bob.pk}/change/"
    assert refreshed(bob).site_role == SiteRole.OPERATOR
    assert recorded("user.role") == [("root", "bob")]


def test_last_administrator_stays_one(browser: Client, admin: User) -> None:
    answer = browser.post(address_of("user", "roles", admin), {"site_role": ""})

    assert "last administrator" in text_of(answer)
    assert refreshed(admin).is_superuser


def test_users_are_deactivated_together_and_what_fails_is_told(
    browser: Client, admin: User, alice: User, bob: User
) -> None:
    create_key(bob, "laptop")
    page = browser.post(address_of("user", "deactivate", admin, alice, bob), follow=True)

    assert [refreshed(user).is_active for user in (admin, alice, bob)] == [True, False, False]
    assert "last administrator" in text_of(page)
    assert len(recorded("user.deactivate")) == 2


def test_page_before_an_end_says_what_goes(browser: Client, bob: User) -> None:
    create_key(bob, "laptop")
    page = text_of(browser.get(address_of("user", "deactivate", bob)))

    assert "1 good keys" in page
    assert "0 models" in page


def test_somebody_is_let_in_again_and_signed_out(browser: Client, bob: User) -> None:
    browser.post(address_of("user", "deactivate", bob))
    browser.post(address_of("user", "activate", bob))
    browser.post(address_of("user", "sessions", bob))

    assert refreshed(bob).is_active
    assert recorded("user.activate") == [("root", "bob")]
    assert recorded("user.end-sessions") == [("root", "bob")]


def test_who_has_signed_up_is_approved(browser: Client, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False, awaits_approval=True)
    browser.post(address_of("user", "approve", bob))

    assert refreshed(bob).is_active
    assert recorded("user.approve") == [("root", "bob")]


def test_link_for_a_password_works(browser: Client, bob: User) -> None:
    page = text_of(browser.post(address_of("user", "link", bob)))
    link = page.split("http://testserver", 1)[1].split()[0]

    assert Client().get(link, follow=True).status_code == 200
    assert recorded("user.password-link") == [("root", "bob")]


def test_user_is_deleted(browser: Client, bob: User) -> None:
    answer = browser.post(address_of("user", "delete", bob))

    assert answer["Location"] == f"{HOME}/user/"
    assert not User.objects.filter(pk=bob.pk).exists()
    assert recorded("user.delete") == [("root", "bob")]


def test_team_is_made_changed_and_deleted(browser: Client, bob: User) -> None:
    browser.post(address_of("team", "new"), {"name": "lab", "owner": "bob"})
    team = Team.objects.get()
    wanted = {"description": "Physics", "allowed_models": "llama*"}
    browser.post(address_of("team", "change", team), wanted)
    team.refresh_from_db()

    assert (team.description, team.allowed_models) == ("Physics", "llama*")
    assert Membership.objects.get().role == "owner"
    browser.post(address_of("team", "delete", team))
    assert not Team.objects.exists()
    assert recorded("team.delete") == [("root", "lab")]


def test_members_come_and_go(browser: Client, alice: User, bob: User) -> None:
    team = Team.objects.get(name=make_team("lab", owner=alice))
    browser.post(address_of("team", "member", team), {"user": "bob", "role": "viewer"})
    page = text_of(browser.get(f"{HOME}/team/{team.pk}/change/"))

    assert "alice (owner), bob (viewer)" in page
    browser.post(address_of("team", "leave", team), {"user": "bob"})
    assert not Membership.objects.filter(user=bob).exists()
    assert recorded("team.leave") == [("root", "lab/bob")]


def test_invite_is_shown_once_and_revoked(browser: Client) -> None:
    answer = browser.post(address_of("invite", "new"), {"role": "member", "days": "3"})
    invite = Invite.objects.get()
    secret = text_of(answer).split("http://testserver/invite/", 1)[1].split()[0]

    assert invite.token_hash == hash_secret(secret)
    assert secret not in text_of(browser.get(f"{HOME}/invite/{invite.pk}/change/"))
    browser.post(address_of("invite", "revoke", invite))
    invite.refresh_from_db()
    assert invite.revoked_at is not None
    assert len(recorded("invite.revoke")) == 1


def test_invite_that_is_used_cannot_be_revoked(browser: Client, bob: User) -> None:
    create_invite(by=None)
    Invite.objects.update(used_at="2026-01-01T00:00Z", used_by=bob)
    answer = browser.post(address_of("invite", "revoke", Invite.objects.get()))

    assert answer.status_code == 200
    assert recorded("invite.revoke") == []


def test_keys_of_others_are_revoked(browser: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    browser.post(address_of("apikey", "revoke", key))

    assert ApiKey.objects.get().revoked_at is not None
    assert len(recorded("key.revoke")) == 1


def test_own_key_is_rotated_and_the_new_one_shown_once(browser: Client, admin: User) -> None:
    key, _ = create_key(admin, "laptop")
    answer = browser.post(address_of("apikey", "rotate", key), {"overlap_hours": "1"})
    made = ApiKey.objects.exclude(pk=key.pk).get()

    assert made.prefix in text_of(answer)
    assert "no-store" in answer["Cache-Control"]
    assert made.prefix in text_of(browser.get(f"{HOME}/apikey/"))


def test_key_of_somebody_else_is_not_rotated(browser: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    answer = browser.post(address_of("apikey", "rotate", key), {"overlap_hours": "1"})

    assert answer.status_code == 200
    assert ApiKey.objects.count() == 1


def test_limit_is_set_changed_and_removed(browser: Client, bob: User) -> None:
    wanted = {"subject": "user", "name": "bob", "unit": "tokens", "period": "day", "amount": "9"}
    browser.post(address_of("limitrule", "set"), wanted)
    rule = LimitRule.objects.get()
    browser.post(address_of("limitrule", "change", rule), {"amount": "8000"})

    assert LimitRule.objects.get().amount == 8000
    assert "8,000 tokens per day" in text_of(browser.get(f"{HOME}/limitrule/"))
    browser.post(address_of("limitrule", "remove", rule))
    assert not LimitRule.objects.exists()
    assert len(recorded("limit.set")) == 2
    assert len(recorded("limit.remove")) == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": "nobody"}, "nobody"),
        ({"period": ""}, "period"),
        ({"amount": "0"}, "greater than or equal to 1"),
    ],
)
def test_limit_that_makes_no_sense_is_refused(
    browser: Client, bob: User, wrong: dict[str, str], why: str
) -> None:
    wanted = {"subject": "user", "name": "bob", "unit": "tokens", "period": "day", "amount": "9"}
    answer = browser.post(address_of("limitrule", "set"), wanted | wrong)

    assert answer.status_code == 200
    assert why in text_of(answer)
    assert not LimitRule.objects.exists()


def test_model_is_pinned_by_an_operator(db: None) -> None:
    model = LanguageModel.objects.create(name="tiny")
    operator = browser_of(staff("olga", SiteRole.OPERATOR))
    operator.post(address_of("languagemodel", "pin", model))
    model.refresh_from_db()

    assert model.is_pinned
    operator.post(address_of("languagemodel", "unpin", model))
    assert recorded("model.pin") == [("olga", "tiny")]
    assert recorded("model.unpin") == [("olga", "tiny")]


def test_audit_is_verified(browser: Client, bob: User) -> None:
    browser.post(address_of("user", "sessions", bob))
    whole = text_of(browser.post(address_of("auditentry", "verify")))
    AuditEntry.objects.filter(action="user.end-sessions").update(subject="alice")
    broken = text_of(browser.post(address_of("auditentry", "verify")))

    assert "The audit is whole" in whole
    assert "was changed" in broken


def test_list_leads_to_the_page_of_an_act(browser: Client, alice: User, bob: User) -> None:
    chosen: dict[str, Any] = {"action": "deactivate", "_selected_action": [alice.pk, bob.pk]}
    answer = browser.post(f"{HOME}/user/", chosen)
    page = text_of(browser.get(answer["Location"]))

    assert answer.status_code == 302
    assert "alice" in page
    assert "bob" in page


def test_admin_keeps_no_log_of_its_own(browser: Client, alice: User) -> None:
    browser.post(f"{HOME}/namespace/add/", {"name": "alice", "kept_tags": "3"})

    assert len(recorded("namespace.set")) == 1
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("panel", site._registry.values(), ids=lambda one: type(one).__name__)
def test_forms_write_by_services_alone(panel: Panel, admin: User) -> None:
    """A table that lets somebody write has said by which service."""
    request = RequestFactory().get("/")
    request.principal = principal_of_user(admin, CredentialKind.SESSION)  # type: ignore[attr-defined]
    of_this = type(panel)
    writes = panel.has_change_permission(request) or panel.has_add_permission(request)

    assert writes is (of_this.save_model is not Panel.save_model)
    assert panel.has_delete_permission(request) is (of_this.delete_model is not Panel.delete_model)
