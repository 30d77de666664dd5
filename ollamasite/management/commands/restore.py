"""`ollamasite restore PLACE [--only-check]`. See ollamasite.backups."""

from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from ollamasite.backups.contents import BackupError
from ollamasite.backups.restoring import look_at, restore
from ollamasite.commands import SiteCommand
from ollamasite.sizes import print_size


class Command(SiteCommand):
    """Restore a backup."""

    help = (
        "Hash a whole backup and then restore it, into an empty data directory (--data-dir) and "
        "an empty database; nothing is overwritten."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("place", type=Path, help="what `ollamasite backup` has written")
        parser.add_argument(
            "--only-check", action="store_true", help="hash the backup and write nothing"
        )

    def handle(self, *, place: Path, only_check: bool, **_: object) -> None:
        """Do it and say what to do next."""
        place = place.expanduser().absolute()
        try:
            contents = look_at(place) if only_check else restore(place)
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        size = print_size(contents.size_bytes)
        what = f"{len(contents.files)} files, {size}, of {contents.made_at}"
        if only_check:
            self.stdout.write(f"{place} is whole: {what}")
            return
        self.stdout.write(f"restored {what}, to {settings.DATA_DIR}")
        if not contents.has_blobs:
            self.stdout.write("It had no models: pull or upload them again.")
        self.stdout.write("Start it with `ollamasite serve`.")
