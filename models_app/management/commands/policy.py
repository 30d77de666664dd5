"""`ollamasite policy`."""

from typing import Any

from models_app.policy_table import to_markdown
from ollamasite.commands import SiteCommand


class Command(SiteCommand):
    """Print the policy table."""

    help = "Print who may use which route, as a Markdown table."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it."""
        self.stdout.write(to_markdown())
