"""A PostgreSQL server of a test's own, which is stopped and started. Knows nothing of a site."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.databases import postgres_program, postgres_user


@dataclass(frozen=True, slots=True)
class Cluster:
    """A server on a unix socket."""

    folder: Path

    @property
    def url(self) -> str:
        return f"postgres:///postgres?host={self.folder}&user=postgres"

    def stop(self) -> None:
        """Stop it: who is connected is thrown out."""
        self._control("-m", "fast", "stop")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=300"
        self._control("-l", str(self.folder / "log"), "-o", options, "start")

    def run(self, program: str, *arguments: str) -> None:
        command = [postgres_program(program), *arguments]
        subprocess.run(
            command, user=postgres_user(), cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "cluster"), "-w", *arguments)


@contextlib.contextmanager
def postgresql() -> Iterator[Cluster]:
    """Run one; it keeps what it has promised to keep."""
    folder = Path(tempfile.mkdtemp(prefix="ollamasite-faults-"))
    if user := postgres_user():
        shutil.chown(folder, user)
        os.chmod(folder, 0o755)  # noqa: S103, PTH101 - tests connect as another user
    cluster = Cluster(folder)
    cluster.run(
        "initdb", "-D", str(folder / "cluster"), "-U", "postgres", "-A", "trust", "-E", "UTF8"
    )
    cluster.start()
    try:
        yield cluster
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
