"""`ollamasite site-key`."""

from typing import Any

from ollamasite.commands import SiteCommand
from registry.remote import site_key


class Command(SiteCommand):
    """Print the key by which other registries can know this site."""

    help = "Print the site's public key, to be registered with other registries."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the line."""
        del args, options
        self.stdout.write(site_key.public_key_line())
