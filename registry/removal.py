"""What nothing needs any longer is let go of: manifests without a name, then their files.

Rows go in a transaction, files after it and only if they are still not wanted then; a file that
cannot be removed now lies there unused. Knows no names, no HTTP and no access rules.
"""

from models_app import selectors, services
from registry.blobs import blob_store
from registry.digest import Digest


def remove_unused() -> None:
    """Drop manifests that no name points at, and the files that only they used.

    Not to be called while the store is held `in_use`: it would wait for itself.
    """
    dropped = [Digest(digest) for digest in services.drop_unused()]
    if dropped:
        blob_store().remove(dropped, is_wanted=_is_wanted)


def _is_wanted(digest: Digest) -> bool:
    return bool(selectors.wanted_blobs([digest.hex]))
