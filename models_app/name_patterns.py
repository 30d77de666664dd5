"""Patterns of model names, as keys and allow-lists of teams have them. Pure text.

A pattern is written like a name, `[[host/]namespace/]model[:tag]`, whatever the case: `*` stands
for any characters and `?` for one, within a part (at most two `*` in each). What is left out means
what it means in the display form of a name: no host the default one, no namespace the library; no
tag means any. So `llama*` is every llama of the library and no model of a user who calls himself
llama-something; `qwen3:*` is the same as `qwen3`; `alice/*` is all of Alice's; `*/*` is everything
but other registries' mirrors. `*` alone is every name there is. Knows nothing of who may do what.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from django.core.exceptions import ValidationError

from models_app.names import DEFAULT_HOST, LIBRARY, ModelName

EVERY_NAME: Final = "*"
_PATTERN: Final = re.compile(
    r"(?:(?:(?P<host>[A-Za-z0-9_.:*?-]+)/)?(?P<namespace>[A-Za-z0-9_*?-]+)/)?"
    r"(?P<model>[A-Za-z0-9_.*?-]+)(?::(?P<tag>[A-Za-z0-9_.*?-]+))?"
)
_MAX_CHARS: Final = 200
_MAX_PATTERNS: Final = 30
# Each makes a search as long as a name is long: two are quick, a dozen would stand still.
_MAX_STARS: Final = 2
_WILD: Final = re.compile(r"[*?]")
_CACHED: Final = 4096


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern by its parts. An empty `tag`: any tag, so the model as a whole."""

    host: str
    namespace: str
    model: str
    tag: str = ""

    def matches(self, name: ModelName, *, is_whole: bool = False) -> bool:
        """Whether a name is like it; `is_whole`: the model with all its tags, whatever they be."""
        if self.tag and (is_whole or not _is_like(self.tag, name.tag)):
            return False
        return (
            _is_like(self.host, name.host)
            and _is_like(self.namespace, name.namespace or LIBRARY)
            and _is_like(self.model, name.model)
        )


@lru_cache(_CACHED)
def parse_pattern(text: str) -> NamePattern | None:
    """Return a pattern by its parts; None for a text that is none, and so is like no name."""
    if text == EVERY_NAME:
        return NamePattern(host="*", namespace="*", model="*")
    match = _PATTERN.fullmatch(text)
    if match is None or len(text) > _MAX_CHARS:
        return None
    if any(part.count("*") > _MAX_STARS for part in match.groups("")):
        return None
    tag = match["tag"] or ""
    return NamePattern(
        host=match["host"] or DEFAULT_HOST,
        namespace=match["namespace"] or LIBRARY,
        model=match["model"],
        tag="" if tag.strip("*") == "" else tag,
    )


def matches_any(patterns: Iterable[str], name: ModelName, *, is_whole: bool = False) -> bool:
    """Whether a name is like one of the patterns; `is_whole`: the model with all of its tags.

    A name without a namespace is one of the library.
    """
    parsed = (parse_pattern(text) for text in patterns)
    return any(pattern.matches(name, is_whole=is_whole) for pattern in parsed if pattern)


def check_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns, each once, without blanks around. Raises ValidationError, a sentence."""
    patterns = tuple(dict.fromkeys(filter(None, (text.strip() for text in texts))))
    if len(patterns) > _MAX_PATTERNS:
        raise ValidationError(f"There may be {_MAX_PATTERNS} patterns at most.")
    for pattern in patterns:
        if parse_pattern(pattern) is None:
            shown = pattern[:_MAX_CHARS]
            raise ValidationError(
                f"{shown!r} is no pattern of model names, such as llama*, qwen3:8b or alice/*."
            )
    return patterns


def are_within(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """Whether every name that `inner` reaches is surely reached by `outer` too.

    Empty sequences reach everything, as those of keys do. Says no where it cannot tell.
    """
    if not outer or EVERY_NAME in outer:
        return True
    if not inner:
        return False
    wider = [pattern for text in outer if (pattern := parse_pattern(text))]
    return all(
        narrow is None or any(_is_within(narrow, wide) for wide in wider)
        for narrow in map(parse_pattern, inner)
    )


def regex_of(part: str) -> str:
    """Return a part of a pattern as a regular expression that Python and databases read alike."""
    pieces = re.split(r"([*?])", part)
    wild = {"*": ".*", "?": "."}
    # Hosts have colons.
    return "^" + "".join(wild.get(piece) or re.escape(piece) for piece in pieces) + "$"


def is_plain(part: str) -> bool:
    """Whether a part of a pattern has nothing in it that stands for something else."""
    return _WILD.search(part) is None


@lru_cache(_CACHED)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(regex_of(part), re.IGNORECASE)


def _is_like(part: str, text: str) -> bool:
    if is_plain(part):
        return part.lower() == text.lower()
    return _compiled(part).search(text) is not None


def _is_within(narrow: NamePattern, wide: NamePattern) -> bool:
    """Whether each part is the same, or plain and matched, or anything at all in the wide one."""
    parts = (
        (narrow.host, wide.host),
        (narrow.namespace, wide.namespace),
        (narrow.model, wide.model),
        (narrow.tag or "*", wide.tag or "*"),
    )
    return all(
        outer == "*"
        or inner.lower() == outer.lower()
        or (is_plain(inner) and _is_like(outer, inner))
        for inner, outer in parts
    )
