"""What has ended on the site's nodes, on this machine and on others, is found by its ids."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from inference.messages import Usage
from inference.node_ends import find_ends
from inference.node_journal import NodeEnd, NodeJournal
from models_app.ledger_journal import Figures
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
    told = find_ends({"local": ["a", "unknown"]})
    assert told.ends == {"a": Figures(tokens_in=1)}
    assert not told.silent


def test_each_node_is_believed_about_what_it_was_sent(tmp_path: Path) -> None:
    ended(tmp_path / "far", a=9, b=3, moved=4)
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
        told = find_ends({"local": ["a"], "far": ["b", "moved", "unknown"]})
    assert told.ends == {
        "a": Figures(tokens_in=1),
        "b": Figures(tokens_in=3),
        "moved": Figures(tokens_in=4),
    }
    assert not told.silent


def test_node_that_does_not_answer_is_named_if_it_was_asked(tmp_path: Path) -> None:
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
    told = find_ends({"local": ["a"], "far": ["b"], "removed": ["c"]})
    assert set(told.ends) == {"a"}
    assert told.silent == ["far"]
    assert not find_ends({"local": ["a"]}).silent
