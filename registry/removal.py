"""What nothing needs any longer is let go of: manifests without a name, then their files.

Rows go in a transaction, files after it and only if they are still not wanted then. What cannot
be removed now lies there unused, and is nothing that a request fails for. Knows no names, no HTTP
and no access rules.
"""

import logging
from collections.abc import Iterable

from django.db import DatabaseError

from models_app import selectors, services
from registry.blobs import blob_store
from registry.digest import Digest

logger = logging.getLogger(__name__)


def remove_unused(added: Iterable[Digest] = ()) -> bool:
    """Drop manifests that no name points at, and the files that only they used.

    Returns whether there were such files. `added`: files that were stored just now, perhaps only
    on the way to others. Not to be called while the store is held `in_use`: it would wait for
    itself.
    """
    try:
        dropped = [Digest(digest) for digest in services.drop_unused()]
        unwanted = [*dropped, *_unwanted(list(added))]
        if unwanted:
            blob_store().remove(unwanted, is_wanted=_is_wanted)
        return bool(unwanted)
    except (DatabaseError, OSError):
        logger.exception("what is no longer used could not be removed")
        return False


def _unwanted(digests: list[Digest]) -> list[Digest]:
    wanted = selectors.wanted_blobs(digest.hex for digest in digests) if digests else set()
    return [digest for digest in digests if digest.hex not in wanted]


def _is_wanted(digest: Digest) -> bool:
    return bool(selectors.wanted_blobs([digest.hex]))
