"""The list of models as its page shows it: narrowed, ordered, cut into pages.

Pure: knows no HTTP, no engine and no database.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from inference import overview
from registry.catalogue import Entry, Whose

PAGE_SIZE: Final = 48
_MAX_QUERY_CHARS: Final = 200
CAPABILITIES: Final = (
    ("completion", "Chat"),
    ("tools", "Tools"),
    ("vision", "Vision"),
    ("thinking", "Thinking"),
    ("insert", "Fill in"),
    ("embedding", "Embedding"),
)
WHOSE: Final = (
    (str(Whose.MINE), "Mine"),
    (str(Whose.TEAM), "My teams'"),
    (str(Whose.LIBRARY), "Library"),
    (str(Whose.OTHERS), "Shared by others"),
)
VISIBILITY_WORDS: Final = {
    "private": "Private",
    "team": "Team",
    "everyone": "Everyone",
}
_CAPABILITY_WORDS: Final = dict(CAPABILITIES)
_WHOSE_BADGES: Final = {
    Whose.MINE: "Mine",
    Whose.TEAM: "Team's",
    Whose.LIBRARY: "Library",
    Whose.OTHERS: "Shared",
}
_Order = tuple[str, Callable[[Entry], Any], bool]
# By what the form calls it: words, key, whether the greatest comes first.
_ORDERS: Final[Mapping[str, _Order]] = {
    "modified": ("Newest first", lambda entry: entry.listed.modified_at, True),
    "name": ("Name", lambda entry: entry.listed.name.lower(), False),
    "size": ("Largest first", lambda entry: entry.listed.size_bytes, True),
    "context": ("Longest context first", lambda entry: entry.listed.context_length or 0, True),
}
SORTS: Final = tuple((name, words) for name, (words, _, _) in _ORDERS.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to see of the list. Empty texts narrow nothing."""

    query: str = ""
    capability: str = ""
    whose: str = ""
    sort: str = "modified"
    is_loaded: bool = False
    page: int = 1

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Wish":
        """Return what a query string asks for; what makes no sense in it narrows nothing."""
        page = given.get("page", "1")
        return cls(
            query=given.get("q", "")[:_MAX_QUERY_CHARS].replace("\0", "").strip(),
            capability=_one_of(dict(CAPABILITIES), given.get("capability", "")),
            whose=_one_of(dict(WHOSE), given.get("whose", "")),
            sort=_one_of(_ORDERS, given.get("sort", "")) or "modified",
            is_loaded=given.get("loaded") == "1",
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 6 else 1,  # noqa: PLR2004 - digits
        )

    def query_string(self, *, page: int) -> str:
        """Return what asks for another page of the same."""
        asked = {
            "q": self.query,
            "capability": self.capability,
            "whose": self.whose,
            "sort": "" if self.sort == "modified" else self.sort,
            "loaded": "1" if self.is_loaded else "",
            "page": str(page) if page > 1 else "",
        }
        return "?" + urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model of the list, in words. Texts are empty where nothing is known."""

    name: str
    link: str
    facts: tuple[tuple[str, str], ...]  # what it is about, what it is
    capabilities: tuple[str, ...]
    whose: str
    visibility: str
    modified_at: datetime
    modified: str
    is_loaded: bool
    is_pinned: bool
    is_alias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page of the list. `found` counts all that is found, `total` all there is."""

    cards: Sequence[Card]
    found: int
    total: int
    first: int  # number of the first card, from 1
    last: int
    previous: str  # query strings; empty: there is no such page
    next: str


def show(entries: Sequence[Entry], wish: Wish, *, loaded: Collection[str], now: datetime) -> Shown:
    """Return the page that is asked for; `loaded` are digests of what is in memory."""
    found = [entry for entry in entries if _is_wanted(entry, wish, loaded)]
    _, key, is_reversed = _ORDERS[wish.sort]
    found.sort(key=lambda entry: entry.listed.name.lower())
    found.sort(key=key, reverse=is_reversed)
    pages = max(1, -(-len(found) // PAGE_SIZE))
    number = min(max(1, wish.page), pages)
    start = (number - 1) * PAGE_SIZE
    part = found[start : start + PAGE_SIZE]
    return Shown(
        cards=[_card(entry, loaded, now) for entry in part],
        found=len(found),
        total=len(entries),
        first=start + 1 if part else 0,
        last=start + len(part),
        previous=wish.query_string(page=number - 1) if number > 1 else "",
        next=wish.query_string(page=number + 1) if number < pages else "",
    )


def capability_words(capabilities: Sequence[str]) -> tuple[str, ...]:
    """Return what a model can do as people say it."""
    return tuple(_CAPABILITY_WORDS.get(name, name) for name in capabilities)


def visibility_word(visibility: str, whose: Whose) -> str:
    """Return who sees a model, as far as that tells more than whose it is."""
    if whose is Whose.OTHERS:
        return ""
    return VISIBILITY_WORDS.get(visibility, visibility)


def whose_word(whose: Whose) -> str:
    """Return whose a model is, to the one who looks."""
    return _WHOSE_BADGES[whose]


def _one_of(choices: Collection[str], text: str) -> str:
    return text if text in choices else ""


def _is_wanted(entry: Entry, wish: Wish, loaded: Collection[str]) -> bool:
    listed = entry.listed
    if wish.capability and wish.capability not in listed.capabilities:
        return False
    if wish.whose and wish.whose != entry.whose:
        return False
    if wish.is_loaded and listed.digest not in loaded:
        return False
    if not wish.query:
        return True
    details = (listed.details.family, listed.parameter_size, listed.quantization_level)
    text = " ".join((listed.name, *details, entry.license)).lower()
    return all(word in text for word in wish.query.lower().split())


def _card(entry: Entry, loaded: Collection[str], now: datetime) -> Card:
    listed = entry.listed
    context = listed.context_length
    facts = (
        ("Size", overview.format_size(listed.size_bytes)),
        ("Parameters", listed.parameter_size),
        ("Quantization", listed.quantization_level),
        ("Context", overview.format_context(context) if context else ""),
        ("License", entry.license),
    )
    return Card(
        name=listed.name,
        link=entry.link,
        facts=facts,
        capabilities=capability_words(listed.capabilities),
        whose=whose_word(entry.whose),
        visibility=visibility_word(entry.visibility, entry.whose),
        modified_at=listed.modified_at,
        modified=overview.format_age(listed.modified_at, now),
        is_loaded=listed.digest in loaded,
        is_pinned=entry.is_pinned,
        is_alias=listed.is_alias,
    )
