"""What a check says of engines elsewhere."""

import pytest

from models_app import upstreams
from models_app.upstreams import UpstreamSettings
from ollamasite.checkup import engines
from registry.upstreams import NewServed, add_upstream, serve_model
from tests.fakes.upstream import answers
from tests.ollamasite.checkup.found import codes
from tests.registry.test_upstreams import OFFERS, engine

pytestmark = pytest.mark.django_db


def test_without_engines_nothing_is_wrong() -> None:
    assert codes(engines.look()) == set()


def test_engine_that_does_not_answer_is_told_with_why_unless_it_is_switched_off() -> None:
    add_upstream(None, "gpu", UpstreamSettings(url="http://127.0.0.1:9"))
    (found,) = engines.look()
    assert (found.code, found.level) == ("upstream.down", "error")
    assert "gpu at http://127.0.0.1:9/v1 serves nothing: no connection to" in found.message
    assert upstreams.find("gpu").is_up is None  # whoever checks notes nothing
    upstreams.set_enabled("gpu", is_enabled=False, by=None)
    assert codes(engines.look()) == set()


def test_model_that_an_engine_has_no_longer_is_told() -> None:
    with engine(answers(200, OFFERS)) as server:
        add_upstream(None, "gpu", UpstreamSettings(url=server.ref().url, kind="vllm"))
        serve_model(None, NewServed(upstream="gpu", model="org/big", name="big"))
        assert codes(engines.look()) == set()
        serve_model(None, NewServed(upstream="gpu", model="org/gone", name="gone"))
        (found,) = engines.look()
    assert found.code == "upstream.model"
    assert "does not tell of org/gone" in found.message
