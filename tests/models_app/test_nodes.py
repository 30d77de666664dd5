"""`ollamasite nodes` tells how each node stands, and since when nobody has heard of it."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from models_app.models import Node
from models_app.permissions import SiteRole
from tests.models_app.admin_pages import HOME, browser_of, staff, text_of

pytestmark = pytest.mark.django_db


def test_nodes_are_listed_with_when_they_were_heard_last() -> None:
    now = timezone.now()
    for name, ago_s in (("here", 4), ("lost", 3600)):
        seen = now - timedelta(seconds=ago_s)
        Node.objects.create(name=name, token_digest=name, address="g:1", last_seen_at=seen)
    Node.objects.create(name="never", token_digest="never")
    out = StringIO()
    call_command("nodes", stdout=out)
    here, lost, never = out.getvalue().splitlines()
    assert here == f"here  active  g:1  {now - timedelta(seconds=4):%Y-%m-%d %H:%M:%S}"
    assert lost == f"lost  active  g:1  lost since {now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
    assert never == "never  active  -  never"


def test_operators_see_which_node_is_lost_and_what_it_has() -> None:
    seen = timezone.now() - timedelta(hours=1)
    node = Node.objects.create(
        name="gpu1",
        token_digest="1",
        address="g:1",
        last_seen_at=seen,
        memory_bytes=64 * 1024**3,
        devices=[{"name": "A100", "total_bytes": 80 * 1024**3}, {"name": "other"}],
    )
    browser = browser_of(staff("olga", SiteRole.OPERATOR))
    lost = f"lost since {seen:%Y-%m-%d %H:%M:%S}"
    assert lost in text_of(browser.get(f"{HOME}/node/"))
    page = text_of(browser.get(f"{HOME}/node/{node.pk}/change/")).replace("\xa0", " ")
    assert lost in page
    assert "64.0 GB" in page
    assert "A100 (80.0 GB), other" in page
