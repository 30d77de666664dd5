"""Processes with limits: whatever they do, the caller gets lines or one clear error.

The child is Python's own `code` module, which runs the statements it reads.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from registry.child_process import ChildFailed, Limits, run_lines

MIB = 1024 * 1024


def limits(**changes: Any) -> Limits:
    values: dict[str, Any] = {
        "memory_bytes": 256 * MIB,
        "mapped_bytes": 1024 * MIB,
        "cpu_s": 20,
        "wall_s": 60.0,
        "file_bytes": 0,
        "output_bytes": MIB,
    }
    return Limits(**{**values, **changes})


def run(*statements: str, **changes: Any) -> str:
    """Run statements, each on a line, and return what they print."""
    request = "\n".join((*statements, "")).encode()
    lines = run_lines("code", request, descriptors=(), limits=limits(**changes))
    return b"\n".join(lines).decode()


def test_lines_come_as_they_were_written() -> None:
    assert "42\n" in run("6 * 7", "print()")


def test_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMASITE_SECRET_KEY", "of-this-site")
    shown = run("import os", "sorted(os.environ)", "print()")
    assert "LC_ALL" in shown
    assert "SECRET" not in shown
    assert "PATH" not in shown


def test_memory_is_limited() -> None:
    assert "1048576" in run("len(bytearray(2 ** 20))", "print()")
    assert "536870912" not in run("len(bytearray(2 ** 29))", "print()")


def test_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    run("from pathlib import Path", f"Path({str(path)!r}).write_text('x' * 100)")
    assert path.read_text() == ""


def test_files_can_be_limited_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    run("from pathlib import Path", f"Path({str(path)!r}).write_text('x' * 100)", file_bytes=10)
    assert path.read_text() == "x" * 10


def test_endless_computing_is_ended() -> None:
    with pytest.raises(ChildFailed, match="takes too much computing time"):
        run("while True: pass", "", cpu_s=1)


def test_waiting_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailed, match="takes longer than 1 s"):
        run("import time", "time.sleep(60)", wall_s=0.6)
    assert time.monotonic() - began < 30


def test_output_is_limited() -> None:
    with pytest.raises(ChildFailed, match="the result is too large"):
        run("print('x' * 2_000_000)")


def test_crash_is_an_error_that_names_the_signal() -> None:
    with pytest.raises(ChildFailed, match="ended by SIGABRT"):
        run("import os", "os.abort()")


def test_bad_end_is_an_error_that_names_the_code() -> None:
    with pytest.raises(ChildFailed, match="ended with code 3"):
        run("import os", "os._exit(3)")


def test_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ChildFailed):
        list(run_lines("registry.nothing", b"", descriptors=(), limits=limits()))


def test_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(ChildFailed, match="the process cannot be started: No such file"):
        run("6 * 7")


def test_process_is_gone_when_nobody_listens_any_longer() -> None:
    request = b"import os, sys, time\nprint(); print(os.getpid(), flush=True); time.sleep(60)\n"
    lines = run_lines("code", request, descriptors=(), limits=limits())
    next(lines)
    pid = int(next(lines))
    lines.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
