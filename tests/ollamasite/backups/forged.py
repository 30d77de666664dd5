"""Backups as they are, and as somebody might have forged them."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from ollamasite.backups.contents import CONTENTS, FORMAT


def entry(name: str, data: bytes, **other: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return {"name": name, "size_bytes": len(data), "sha256": sha256} | other


def contents(*files: dict[str, Any], **other: Any) -> bytes:
    told = {
        "format": FORMAT,
        "made_at": "2026-11-23T09:00:00+00:00",
        "site_version": "0.1.0",
        "database": "sqlite",
        "migrations": {},
        "state": "state-1",
        "has_blobs": True,
        "files": [entry("database", b"rows"), *files],
    }
    return msgspec.json.encode(told | other)


def write_tar(path: Path, members: list[tuple[str, bytes]], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for other in others:
            tar.addfile(other)
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def whole_tar(path: Path, *others: tarfile.TarInfo) -> Path:
    return write_tar(path, [("database", b"rows"), (CONTENTS, contents())], *others)
