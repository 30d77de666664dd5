"""Looks at every part of the site, one after the other. One that cannot be looked at says so."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from django.db import DatabaseError, InterfaceError, connection

from ollamasite.checkup import (
    certificates,
    configuration,
    database,
    engines,
    files,
    machine,
    processes,
    store,
)
from ollamasite.checkup.findings import Finding, Level, Look, note

logger = logging.getLogger(__name__)

_LOOKS: Final[Mapping[str, tuple[Look, ...]]] = {
    "data directory": (files.look_at_directory,),
    "disks": (files.look_at_disks, files.look_at_remote_disks),
    "settings": (configuration.look,),
    "database": (database.look,),
    "redis": (processes.look_at_redis,),
    "engine": (processes.look_at_engine, machine.look_at_llama),
    "nodes": (processes.look_at_nodes,),
    "engines elsewhere": (engines.look,),
    "web": (processes.look_at_web, certificates.look),
    "worker": (processes.look_at_worker, processes.look_at_jobs),
    "ledger": (processes.look_at_journals,),
    "store": (store.look, store.look_at_some_bytes),
    "machine": (machine.look_at_packages, machine.look_at_limits),
}
_DEEP: Final[Mapping[str, tuple[Look, ...]]] = {"files' bytes": (store.look_at_bytes,)}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the site, and what was found there."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether it works and could be looked at."""
        return not self.findings


def run(*, is_deep: bool) -> Iterator[Part]:
    """Look at everything and tell of each part as it is done; `is_deep`: at every byte too."""
    looks = {**_LOOKS, **_DEEP} if is_deep else _LOOKS
    for name, of_part in looks.items():
        yield Part(name, tuple(finding for look in of_part for finding in _found(look)))


def has_errors(parts: list[Part]) -> bool:
    """Whether something does not work."""
    return any(found.level is Level.ERROR for part in parts for found in part.findings)


def _found(look: Look) -> list[Finding]:
    try:
        return list(look())
    except (OSError, DatabaseError, InterfaceError) as problem:
        # The database and the directory have looks of their own, which say what is wrong.
        return [note("check.could-not-look", f"This could not be looked at: {problem}")]
    except Exception as problem:  # the looks behind it may tell what the matter is
        logger.debug("a look failed", exc_info=True)
        what = f"{type(problem).__name__}: {problem}"
        return [note("check.could-not-look", f"This could not be looked at: {what}")]
    finally:
        connection.close()
