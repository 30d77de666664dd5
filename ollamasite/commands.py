"""What the site's commands have in common. Knows none of them."""

from django.core.management.base import BaseCommand


class SiteCommand(BaseCommand):
    """A command of this site. Starts without Django's checks, for which every page is loaded.

    Whoever wants them has `ollamasite check`.
    """

    requires_system_checks = ()
