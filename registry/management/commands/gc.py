"""`ollamasite gc`."""

from typing import Any

from models_app import audit
from ollamasite.commands import SiteCommand
from ollamasite.sizes import print_size
from registry.garbage import collect


class Command(SiteCommand):
    """Collect garbage now."""

    help = (
        "Remove what nobody needs any longer: uploads that were left, tags and manifests that a "
        "namespace does not keep, files of no model. Safe while the site runs."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Collect it and tell what has gone."""
        del args, options
        audit.record("store.gc", by=None)
        collected = collect()
        self.stdout.write(f"removed {collected} ({print_size(collected.freed_bytes)})")
