"""The command: what it prints, how it ends, and that one failure does not hide the others."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from ollamasite.checkup import running
from ollamasite.checkup.findings import Finding, Look, error, note, warning

DAMAGED = error("part.damaged", "It is damaged.", "Mend it.")
OLD = warning("part.old", "It is old.", "Renew it.")
CLOSED = note("part.closed", "It is closed.")


def cannot_look() -> list[Finding]:
    raise PermissionError(13, "Permission denied")


def is_broken() -> list[Finding]:
    raise KeyError("a table of another version")


def check(monkeypatch: pytest.MonkeyPatch, *looks: Look, **options: bool) -> tuple[str, int]:
    parts = {f"part {number}": (look,) for number, look in enumerate(looks)}
    monkeypatch.setattr(running, "_LOOKS", parts)
    output = StringIO()
    try:
        call_command("check", stdout=output, **options)
    except SystemExit as end:
        return output.getvalue(), int(end.code or 0)
    return output.getvalue(), 0


def test_site_that_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, list) == ("ok       part 0\n", 0)


def test_errors_end_it_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told, code = check(monkeypatch, lambda: [DAMAGED, OLD], list, lambda: [CLOSED])
    assert code == 1
    assert told.splitlines() == [
        "error    part 0: It is damaged.",
        "         → Mend it.",
        "warning  part 0: It is old.",
        "         → Renew it.",
        "ok       part 1",
        "note     part 2: It is closed.",
    ]


def test_warnings_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, lambda: [OLD])[1] == 0


def test_programs_get_json(monkeypatch: pytest.MonkeyPatch) -> None:
    told, code = check(monkeypatch, lambda: [DAMAGED], json=True)
    found = json.loads(told)
    assert (code, found["ok"]) == (1, False)
    assert found["parts"][0]["findings"][0] == {
        "code": "part.damaged",
        "level": "error",
        "message": "It is damaged.",
        "advice": "Mend it.",
    }


@pytest.mark.parametrize(
    ("look", "said"), [(cannot_look, "[Errno 13]"), (is_broken, "KeyError: 'a table")]
)
def test_what_cannot_be_looked_at_does_not_hide_the_rest(
    monkeypatch: pytest.MonkeyPatch, look: Look, said: str
) -> None:
    told, code = check(monkeypatch, look, lambda: [DAMAGED])
    assert f"could not be looked at: {said}" in told
    assert "It is damaged." in told
    assert code == 1


def test_deep_look_is_taken_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_DEEP", {"bytes": (lambda: [DAMAGED],)})
    assert check(monkeypatch, list)[1] == 0
    assert check(monkeypatch, list, deep=True)[1] == 1
