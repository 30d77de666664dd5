"""What a page is made of: kinds of elements, and the addresses in it. Knows no page of the site."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

Kind = tuple[str, frozenset[str]]

_ADDRESSES: Final = frozenset(
    {"href", "src", "action", "formaction", "poster", "data", "xlink:href", "srcset", "cite"}
    | {f"hx-{verb}" for verb in ("get", "post", "put", "patch", "delete")}
)
# That an element is chosen, open or the current one is no kind of its own.
_STATES: Final = frozenset(
    {"selected", "checked", "disabled", "open", "hidden", "title", "rel"}
    | {"aria-current", "aria-selected", "aria-invalid"}
)


@dataclass
class Made(HTMLParser):
    """The kinds of elements of a page, and what must not be there."""

    kinds: set[Kind] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        names = [name for name, _ in attrs]
        self.kinds.add((tag, frozenset(names) - _STATES))
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        for name, value in attrs:
            if name.startswith(("on", "hx-on")) or name in {"style", "srcdoc"}:
                self.faults.append(f"<{tag} {name}={value}>")
            if name in _ADDRESSES and value is not None:
                self.addresses.add(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element without content."""
        self.handle_starttag(tag, attrs)


def made_of(html: str) -> Made:
    """Read a page."""
    made = Made()
    made.feed(html)
    made.close()
    return made
