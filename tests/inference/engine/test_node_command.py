"""`ollamasite node`: what is typed wrongly is told in one sentence before anything is begun."""

from pathlib import Path

import pytest

from inference.engine import node_command

WORD = "osn-73c7c56ff4436098e9a403904976d7d602db098dc712cde8"


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Return what is said of a command that cannot be used."""
    token = folder / "token"
    if not token.exists():
        token.write_text(f"{WORD}\n")
    given = ["--site", "http://127.0.0.1:9", "--listen", "127.0.0.1:1"]
    given += ["--token-file", str(token), "--data-dir", str(folder / "node")]
    with pytest.raises(SystemExit) as ended:
        node_command.main([*given, *options])
    assert ended.value.code == 2
    assert not list((folder / "node").glob("*"))
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--parallel", "0"),
        ("--parallel", "-4"),
        ("--max-loaded", "0"),
        ("--max-queue", "0"),
        ("--threads", "-1"),
        ("--threads", "2.5"),
        ("--cache-limit", "-1"),
        ("--cache-limit", "0"),
        ("--memory-limit", "nan"),
        ("--memory-limit", "inf"),
        ("--memory-limit", "4GiB"),
        ("--drain", "nan"),
        ("--drain", "-2"),
        ("--keep-alive", "soon"),
        ("--listen", "127.0.0.1:0"),
        ("--listen", "127.0.0.1:99999"),
        ("--advertise", "gpu1.lan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    said = refused(tmp_path, capsys, f"{option}={value}")
    assert f"argument {option}" in said
    assert value in said


@pytest.mark.parametrize("written", [b"", b"\n\n", b"\xc4\x80\xff", "schlüssel".encode(), b"a\0b"])
def test_a_file_without_a_token_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: bytes
) -> None:
    (tmp_path / "token").write_bytes(written)
    assert "holds no token" in refused(tmp_path, capsys)


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in refused(tmp_path, capsys, "--token-file", str(tmp_path / "none"))
