"""What has ended on the site's nodes, on this machine and on others, is found by its ids."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from inference.messages import Usage
from inference.node_ends import find_ends
from inference.node_journal import NodeEnd, NodeJournal
from models_app.ledger_journal import Figures
from models_app.ledger_recovery import ToldEnd
from tests.inference.engine.far_node import far_house, joined

pytestmark = pytest.mark.django_db


def ended(folder: Path, **prompt_tokens: int) -> None:
    journal = NodeJournal(folder)
    for request_id, count in prompt_tokens.items():
        journal.append(NodeEnd(request_id, Usage(prompt_tokens=count)))
    journal.close()


@pytest.fixture(autouse=True)
def _own_journal(settings: Settings, tmp_path: Path) -> None:
    settings.ENGINE_STATE_DIR = tmp_path / "own"
    ended(tmp_path / "own", a=1, moved=2)


def test_without_other_machines_the_own_journal_is_read() -> None:
    told = find_ends(["a", "unknown"])
    assert told.ends == {"a": ToldEnd(Figures(tokens_in=1), "local")}
    assert not told.silent


def test_nodes_on_other_machines_are_asked(tmp_path: Path) -> None:
    ended(tmp_path / "far", b=3, moved=4, others=5)
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
        told = find_ends(["a", "b", "moved", "unknown"])
    assert told.ends == {
        "a": ToldEnd(Figures(tokens_in=1), "local"),
        "b": ToldEnd(Figures(tokens_in=3), "far"),
        "moved": ToldEnd(Figures(tokens_in=4), "far"),
    }
    assert not told.silent


def test_node_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
    told = find_ends(["a", "b"])
    assert set(told.ends) == {"a"}
    assert told.silent == ("far",)
