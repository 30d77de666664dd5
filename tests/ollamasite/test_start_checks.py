"""What refuses the start of `serve`: somebody else's lock, somebody else's port."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ollamasite.start_checks import ServeError, hold_lock, refuse_taken_port

# Holds the lock and hands it to a child that outlives it; prints the child's process id.
KILLED_SERVE = """
import os, pathlib, signal, subprocess, sys
from ollamasite.start_checks import hold_lock
fd = hold_lock(pathlib.Path(sys.argv[1]), patience_s=0)
child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=[fd], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_serve(lock: Path, child_lives_s: float) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_SERVE, str(lock), str(child_lives_s)],
        stdout=subprocess.PIPE,
        check=False,
    )
    return int(done.stdout)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_lock_names_its_holder(tmp_path: Path) -> None:
    lock_fd = hold_lock(tmp_path / "serve.lock", patience_s=0)

    assert (tmp_path / "serve.lock").read_text() == f"{os.getpid()}\n"
    os.close(lock_fd)


def test_second_serve_is_told_the_process_and_what_to_do(tmp_path: Path) -> None:
    lock_fd = hold_lock(tmp_path / "serve.lock", patience_s=0)

    with pytest.raises(ServeError, match=rf"process {os.getpid()}\).*--data-dir"):
        hold_lock(tmp_path / "serve.lock", patience_s=0)
    os.close(lock_fd)


def test_lock_is_free_once_its_holder_is_gone(tmp_path: Path) -> None:
    os.close(hold_lock(tmp_path / "serve.lock", patience_s=0))

    os.close(hold_lock(tmp_path / "serve.lock", patience_s=0))


def test_next_serve_waits_for_the_children_of_a_killed_one(tmp_path: Path) -> None:
    killed_serve(tmp_path / "serve.lock", child_lives_s=0.5)

    os.close(hold_lock(tmp_path / "serve.lock", patience_s=10))


def test_next_serve_does_not_wait_for_ever(tmp_path: Path) -> None:
    child = killed_serve(tmp_path / "serve.lock", child_lives_s=30)

    with pytest.raises(ServeError, match="an earlier `ollamasite serve`"):
        hold_lock(tmp_path / "serve.lock", patience_s=0.1)
    os.kill(child, 9)


def test_free_port_is_accepted() -> None:
    refuse_taken_port("127.0.0.1", free_port())


def test_taken_port_is_refused_with_the_way_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ServeError, match=r"is taken by another program.*--port"),
    ):
        refuse_taken_port("127.0.0.1", server.getsockname()[1])


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServeError, match=r"Cannot listen on 192\.0\.2\.1"):
        refuse_taken_port("192.0.2.1", free_port())
