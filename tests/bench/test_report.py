"""Tables and their places in the document."""

from pathlib import Path

import pytest

from bench import report, svg


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nafter\n")

    report.write_section("a", r"new \1", document)

    assert document.read_text() == (
        "before\n<!-- bench:a -->\n\nnew \\1\n\n<!-- /bench:a -->\nafter\n"
    )


def test_a_section_without_a_place_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing here")

    with pytest.raises(ValueError, match="bench:a"):
        report.write_section("a", "new", document)


@pytest.mark.parametrize("name", ["compare", "fairness", "overhead", "soak"])
def test_the_document_has_a_place_for_every_measurement(name: str) -> None:
    assert f"<!-- bench:{name} -->" in report.DOCUMENT.read_text()


def test_a_verdict_says_what_is_wanted_and_whether_it_is_met() -> None:
    assert report.verdict(1.02, at_least=0.9) == "1.02 (≥ 0.9: met)"
    assert report.verdict(0.5, at_most=0.35) == "0.50 (≤ 0.35: **missed**)"


def test_a_graph_names_its_lines_and_stays_in_the_picture() -> None:
    graph = svg.line_graph("memory", "minutes", {"a<b": [(0, 0), (10, 100)]})

    assert "a&lt;b" in graph
    assert 'points="60.0,380.0 700.0,61.8"' in graph
