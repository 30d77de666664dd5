"""`ollamasite namespace NAME [--quota SIZE] [--immutable-tags PATTERNS] [--keep-tags N]`."""

from dataclasses import replace
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from models_app.namespaces import NamespaceRules, quota_of, rules_of, set_rules, stored_bytes
from ollamasite.commands import SiteCommand
from ollamasite.sizes import parse_size, print_size

_MAX_DIGITS: Final = 9


class Command(SiteCommand):
    """Change what holds in a namespace."""

    help = "Change what holds in a namespace, a user's or the library, and tell what holds now."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="a user's name, or library")
        parser.add_argument(
            "--quota", metavar="200GiB", help="what it may hold; `default`: as other namespaces"
        )
        parser.add_argument(
            "--immutable-tags",
            metavar="'v* release-*'",
            help="tags that stay what they are, with blanks between; '' for none",
        )
        parser.add_argument(
            "--keep-tags", metavar="N", help="the newest tags of each model that stay; or `all`"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Change it."""
        del args
        rules = _changed(rules_of(options["name"]), options)
        try:
            set_rules(rules)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self._tell(rules_of(rules.name))

    def _tell(self, rules: NamespaceRules) -> None:
        quota_bytes = quota_of(rules.name, default=settings.NAMESPACE_QUOTA_BYTES)
        limit = "no quota" if quota_bytes is None else f"quota {print_size(quota_bytes)}"
        kept = "all tags stay" if rules.kept_tags is None else f"{rules.kept_tags} tags stay"
        immutable = f"immutable: {rules.immutable_tags or 'none'}"
        used = print_size(stored_bytes(rules.name))
        self.stdout.write(f"{rules.name}: holds {used}, {limit}, {kept}, {immutable}")


def _changed(rules: NamespaceRules, options: dict[str, Any]) -> NamespaceRules:
    """Return the rules with what the options name. Raises CommandError."""
    if (quota := options["quota"]) is not None:
        rules = replace(rules, quota_bytes=None if quota == "default" else _size(quota))
    if (kept := options["keep_tags"]) is not None:
        rules = replace(rules, kept_tags=None if kept == "all" else _number(kept))
    if (patterns := options["immutable_tags"]) is not None:
        rules = replace(rules, immutable_tags=patterns)
    return rules


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise CommandError(f"--quota {text}: write a size such as 200GiB, or default.") from error


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise CommandError(f"--keep-tags {text}: write a number of at least 1, or all.")
    return int(text)
