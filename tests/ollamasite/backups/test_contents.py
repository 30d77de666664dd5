"""What `backup.json` may say."""

import pytest

from ollamasite.backups.contents import BackupError, is_file_name, parse
from tests.ollamasite.backups.forged import contents, entry

BLOB = b"weights"


def blob_name(data: bytes = BLOB) -> str:
    return f"blobs/sha256-{entry('', data)['sha256']}"


def test_what_a_backup_holds_can_be_read() -> None:
    found = parse(contents(entry(blob_name(), BLOB), entry("secrets/key_pepper", b"p")))

    assert [one.name for one in found.files] == ["database", blob_name(), "secrets/key_pepper"]
    assert found.size_bytes == 4 + len(BLOB) + 1


@pytest.mark.parametrize(
    "name",
    [
        "../database",
        "/etc/passwd",
        "secrets/../../authorized_keys",
        "secrets/other",
        "ledger/web-1.jsonl/../x",
        "ledger/web-..jsonl/x",
        "blobs/sha256-ABC",
        "blobs/sha256-" + "0" * 65,
        "database\n",
        "database/",
        "",
        "engine/ends.2.jsonl",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert not is_file_name(name)
    with pytest.raises(BackupError, match="no file of a backup"):
        parse(contents(entry(name, b"x")))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"format": 1}', "cannot be read"),
        (contents(format=2), "restore it with the version that made it"),
        (contents(entry("database", b"again")), "names a file twice"),
        (contents(files=[]), "no database"),
        (contents(state="../../somewhere"), "no file of a backup"),
        (contents(entry(blob_name(), b"another's digest")), "no file of a backup"),
        (contents(entry("secrets/key_pepper", b"", size_bytes=-1)), "no file of a backup"),
        (contents(entry("secrets/key_pepper", b"", sha256="x")), "no file of a backup"),
    ],
)
def test_what_no_backup_says_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BackupError, match=why):
        parse(data)
