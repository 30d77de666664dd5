"""What a look has found, for tests."""

from collections.abc import Iterable

from ollamasite.checkup.findings import Finding, Level


def codes(findings: Iterable[Finding]) -> set[str]:
    """Return the codes; every sentence ends as one, and what is wrong has an advice."""
    found = list(findings)
    for one in found:
        assert one.message.endswith(".") or ":" in one.message, one
        assert one.advice or one.level is Level.NOTE, one
    return {one.code for one in found}
