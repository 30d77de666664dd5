"""`ollamasite backup PLACE [--without-blobs] [--without-secrets]`. See ollamasite.backups."""

from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import CommandError
from django.db import DatabaseError

from ollamasite.backups.contents import BackupError
from ollamasite.backups.making import Choice, make
from ollamasite.commands import SiteCommand
from ollamasite.sizes import print_size


class Command(SiteCommand):
    """Make a backup, also while the site runs."""

    help = (
        "Write database, models, secrets and journals to a file that ends in .tar, or into a "
        "folder, where the next backup copies only models that are new."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("place", type=Path, help="a file that ends in .tar, or a folder")
        parser.add_argument(
            "--without-blobs", action="store_true", help="leave the models' files out"
        )
        parser.add_argument(
            "--without-secrets",
            action="store_true",
            help="leave out what signs sessions and keys; a restore then asks for it",
        )

    def handle(
        self, *, place: Path, without_blobs: bool, without_secrets: bool, **_: object
    ) -> None:
        """Make it and say what it holds."""
        choice = Choice(has_blobs=not without_blobs, has_secrets=not without_secrets)
        try:
            contents = make(place.expanduser().absolute(), choice)
        except (BackupError, OSError, DatabaseError) as error:
            raise CommandError(f"No backup was made. {error}") from error
        size = print_size(contents.size_bytes)
        self.stdout.write(f"{place} is whole: {len(contents.files)} files, {size}")
        for digest in contents.left_out:
            self.stderr.write(
                f"sha256:{digest} is missing or damaged and is not in it; `ollamasite verify` "
                "tells which models need it"
            )
