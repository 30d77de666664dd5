"""The supervisor with real processes: restart, order of the stop, and that nothing is left."""

import asyncio
import io
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ollamasite.process_log import ProcessLog
from ollamasite.supervisor import Backoff, Child, ChildStartError, Supervisor

QUICK = Backoff(first_s=0.05, longest_s=0.2, healthy_s=30.0)
SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
# Starts a child of its own in the same session, says its pid and waits.
WITH_GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)]


def process_state(pid: int) -> tuple[str, int] | None:
    """Return the kernel's letter for a process and its parent, or None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    letter, parent_pid = stat.rpartition(")")[2].split()[:2]
    return letter, int(parent_pid)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected yet does not."""
    state = process_state(pid)
    return state is not None and state[0] != "Z"


async def eventually(is_true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_true():
            await asyncio.sleep(0.02)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def supervisor(output: io.StringIO) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(ProcessLog(output), QUICK)
    yield supervisor
    supervisor.kill()
    await supervisor.stop()


async def test_output_of_a_child_is_logged_under_its_name(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    await supervisor.start(Child("web", python("print('hello'); import time; time.sleep(60)")))

    await eventually(lambda: "web       | hello\n" in output.getvalue())


async def test_start_waits_until_the_child_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    code = "import pathlib, sys, time; time.sleep(0.2); pathlib.Path(sys.argv[1]).touch(); "

    async def is_marked() -> bool:
        return mark.exists()

    await supervisor.start(Child("web", python(code + "time.sleep(60)", mark), ready=is_marked))

    assert mark.exists()


async def test_child_that_ends_before_it_is_ready_fails_the_start(supervisor: Supervisor) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(ChildStartError, match="web ended with exit code 3 before it was ready"):
        await supervisor.start(Child("web", python("raise SystemExit(3)"), ready=never))


async def test_child_that_never_gets_ready_fails_the_start(supervisor: Supervisor) -> None:
    async def never() -> bool:
        return False

    child = Child("web", python(SLEEPER), ready=never, ready_timeout_s=0.3)
    with pytest.raises(ChildStartError, match="web was not ready within"):
        await supervisor.start(child)


async def test_missing_program_fails_the_start(supervisor: Supervisor) -> None:
    with pytest.raises(ChildStartError, match="redis cannot be started"):
        await supervisor.start(Child("redis", ["/nonexistent/redis-server"]))


async def test_crashed_child_is_started_again_and_the_log_says_why(
    supervisor: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lives = tmp_path / "lives"
    code = "import sys; open(sys.argv[1], 'a').write('x'); raise SystemExit(7)"

    await supervisor.start(Child("worker", python(code, lives)))
    await eventually(lambda: lives.exists() and len(lives.read_text()) >= 3)

    assert "worker ended with exit code 7 after" in caplog.text
    assert "it is started again in 0.1 s" in caplog.text


async def test_killed_child_is_started_again_with_the_signal_named(
    supervisor: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lives = tmp_path / "lives"
    code = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(60)"
    await supervisor.start(Child("worker", python(code, lives)))
    await eventually(lambda: lives.exists() and lives.read_text().count("\n") == 1)

    os.kill(int(lives.read_text()), signal.SIGKILL)
    await eventually(lambda: lives.read_text().count("\n") == 2)

    assert "worker was ended by SIGKILL" in caplog.text


def test_pause_doubles_up_to_its_limit() -> None:
    backoff = Backoff()
    pauses = [backoff.next_s(None, lived_s=0)]
    while len(pauses) < 8:
        pauses.append(backoff.next_s(pauses[-1], lived_s=1))

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_pause_is_short_again_after_a_healthy_life() -> None:
    assert Backoff().next_s(30, lived_s=61) == 0.5


async def test_grandchild_of_a_killed_child_is_gone(supervisor: Supervisor, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    await supervisor.start(Child("inference", python(WITH_GRANDCHILD, pid_file)))
    await eventually(lambda: pid_file.exists() and bool(pid_file.read_text()))
    grandchild = int(pid_file.read_text())
    state = process_state(grandchild)
    assert state is not None

    os.kill(state[1], signal.SIGKILL)

    await eventually(lambda: not is_alive(grandchild))


async def test_stop_leaves_no_grandchild(supervisor: Supervisor, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    await supervisor.start(Child("inference", python(WITH_GRANDCHILD, pid_file)))
    await eventually(lambda: pid_file.exists() and bool(pid_file.read_text()))
    grandchild = int(pid_file.read_text())

    await supervisor.stop()

    await eventually(lambda: not is_alive(grandchild))


async def test_stop_ends_children_in_the_reverse_order_one_after_another(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    code = """
    import signal, sys, time
    def leave(*_):
        print("draining", flush=True); time.sleep(0.2); print("gone", flush=True); sys.exit()
    signal.signal(signal.SIGTERM, leave)
    print("up", flush=True)
    time.sleep(60)
    """
    for name in ("redis", "worker", "web"):
        await supervisor.start(Child(name, python(code)))
    await eventually(lambda: output.getvalue().count("up") == 3)

    await supervisor.stop()

    stopping = [line.replace(" ", "") for line in output.getvalue().splitlines()[3:]]
    assert stopping == [
        "web|draining",
        "web|gone",
        "worker|draining",
        "worker|gone",
        "redis|draining",
        "redis|gone",
    ]


async def test_child_that_does_not_end_is_killed_in_the_end(
    supervisor: Supervisor, output: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    await supervisor.start(Child("web", python(DEAF), stop_timeout_s=0.2))
    await eventually(lambda: "up" in output.getvalue())

    async with asyncio.timeout(30):
        await supervisor.stop()

    assert "web did not end within 0 s and is killed" in caplog.text


async def test_stopped_child_is_not_started_again(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    await supervisor.start(Child("web", python(SLEEPER)))
    await eventually(lambda: "up" in output.getvalue())

    await supervisor.stop()
    await asyncio.sleep(4 * QUICK.first_s)

    assert output.getvalue().count("up") == 1


async def test_stop_during_the_pause_before_a_restart_is_immediate(
    output: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(ProcessLog(output), Backoff(first_s=60))
    await supervisor.start(Child("web", python("raise SystemExit(1)")))
    await eventually(lambda: "it is started again in 60.0 s" in caplog.text)

    async with asyncio.timeout(30):
        await supervisor.stop()


async def test_kill_ends_a_stop_that_is_waiting(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    await supervisor.start(Child("web", python(DEAF), stop_timeout_s=60))
    await eventually(lambda: "up" in output.getvalue())
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0.1)

    supervisor.kill()

    async with asyncio.timeout(30):
        await stopping


async def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, sys, time; open({str(pid_file)!r}, 'w').write(str(os.getpid()))"
    parent = f"""
    import asyncio, sys
    from ollamasite.process_log import ProcessLog
    from ollamasite.supervisor import Child, Supervisor

    async def main():
        argv = [sys.executable, "-c", {child + "; time.sleep(60)"!r}]
        await Supervisor(ProcessLog(sys.stdout)).start(Child("web", argv))
        await asyncio.sleep(60)

    asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(*python(parent))
    await eventually(lambda: pid_file.exists() and bool(pid_file.read_text()))
    process.kill()
    await process.wait()

    await eventually(lambda: not is_alive(int(pid_file.read_text())))


async def test_inherited_descriptor_stays_open_in_the_child(
    supervisor: Supervisor, output: io.StringIO, tmp_path: Path
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        code = "import os, sys; print(os.fstat(int(sys.argv[1])).st_ino)"
        fds = (lock.fileno(),)
        await supervisor.start(Child("web", python(code, lock.fileno()), inherited_fds=fds))

        inode = str(os.fstat(lock.fileno()).st_ino)
        await eventually(lambda: inode in output.getvalue())


async def test_lines_of_a_flooding_child_are_all_there(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    code = "print('\\n'.join(f'line {n}' for n in range(20000)), flush=True)"

    await supervisor.start(Child("web", python(code)))
    await eventually(lambda: "| line 19999\n" in output.getvalue())

    assert output.getvalue().count("web       | line 12345\n") >= 1
