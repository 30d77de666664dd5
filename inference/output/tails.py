"""The end of a growing text that may become one of some fixed texts.

Knows nothing of what the texts mean.
"""

from collections.abc import Iterable


def begun_length(text: str, wanted: Iterable[str]) -> int:
    """Return the length of the longest tail that begins, but is not yet, a wanted text."""
    start = len(text)
    for each in wanted:
        at = text.find(each[0], max(0, len(text) - len(each) + 1))
        while 0 <= at < start:
            if each.startswith(text[at:]):
                start = at
            at = text.find(each[0], at + 1)
    return len(text) - start
