"""`ollamasite nodes` tells how each node stands, and since when nobody has heard of it."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from models_app.models import Node

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
