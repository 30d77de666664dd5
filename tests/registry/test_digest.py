"""Digests: two spellings are accepted, everything else is refused."""

import pytest

from registry.digest import Digest
from registry.errors import InvalidDigest

HEX = "0123456789abcdef" * 4

BAD = [
    "",
    HEX,
    "sha256",
    "sha256:",
    f"sha256{HEX}",
    f"sha256/{HEX}",
    f"sha256::{HEX}",
    f"SHA256:{HEX}",
    f"sha512:{HEX}",
    f"md5:{HEX}",
    f"sha256:{HEX.upper()}",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX[:-1]}g",
    f"sha256:{HEX}\n",
    f"\nsha256:{HEX}",
    f" sha256:{HEX}",
    f"sha256:{HEX} ",
    f"sha256:{HEX[:-1]}\0",
    f"sha256:{HEX}\0",
    f"sha256:{'../' * 21}a",
    f"sha256:../../{HEX[6:]}",
    f"sha256-{HEX}/../x",
    f"../sha256:{HEX}",
    f"sha256:{'٣' * 64}",
    f"sha256:{'a' * 100_000}",
]


@pytest.mark.parametrize("separator", [":", "-"])
def test_both_separators_are_read(separator: str) -> None:
    assert Digest.parse(f"sha256{separator}{HEX}") == Digest(HEX)


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest, match="invalid digest format"):
        Digest.parse(text)


def test_text_form_has_a_colon_and_the_file_name_a_dash() -> None:
    digest = Digest(HEX)
    assert (str(digest), digest.file_name) == (f"sha256:{HEX}", f"sha256-{HEX}")


def test_digest_of_bytes_is_their_sha256() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Digest.of(b"").hex == empty
