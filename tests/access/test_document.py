"""docs/access.md says what the code does."""

import re
from io import StringIO
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

DOCUMENT = Path(settings.BASE_DIR) / "docs" / "access.md"


def test_policy_table_in_the_document_is_the_one_in_the_code() -> None:
    """Where it fails: put what `ollamasite policy` prints between the two marks."""
    out = StringIO()
    call_command("policy", stdout=out)
    found = re.search(r"<!-- policy -->\n(.*)\n<!-- /policy -->", DOCUMENT.read_text(), re.DOTALL)

    assert found is not None
    assert found[1].strip() == out.getvalue().strip()


def test_commands_in_the_document_are_there() -> None:
    named = set(re.findall(r"^ollamasite ([a-z-]+)", DOCUMENT.read_text(), re.MULTILINE))
    there = {
        path.stem.replace("_", "-")
        for path in Path(settings.BASE_DIR).glob("*/management/commands/*.py")
    }

    assert named - there == set()
