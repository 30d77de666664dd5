"""Two people for the pages: alice runs the site, bob works with it."""

import pytest
from django.test import Client

from models_app.accounts import create_user
from models_app.models import User
from tests.pages.catalogue import PASSWORD

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def alice(db: None) -> User:
    return create_user("alice", PASSWORD, is_admin=True)


@pytest.fixture
def bob(db: None) -> User:
    return create_user("bob", PASSWORD)


@pytest.fixture
def browser() -> Client:
    """A client that asks for pages, with CSRF checks like a real one."""
    return Client(headers={"accept": BROWSER}, enforce_csrf_checks=True)


@pytest.fixture
def as_alice(browser: Client, alice: User) -> Client:
    browser.force_login(alice)
    return browser


@pytest.fixture
def as_bob(browser: Client, bob: User) -> Client:
    browser.force_login(bob)
    return browser
