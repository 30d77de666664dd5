"""The services of `docker-compose.yml` as processes of this machine, each as it stands there.

Commands and environments are the file's own. What Docker does is done here: names and ports of
containers become addresses of this machine, `/data` a directory of the test's, and words of the
proxy's template are replaced. PostgreSQL is started by hand, because its image's command makes a
cluster first. Knows nothing of what the site answers.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg

from ollamasite.data_dir import run_dir
from tests import compose
from tests.certificates import make_certificate
from tests.databases import postgres_program, postgres_user
from tests.processes.running_site import descendants, free_port, listens, wait_for

START_S: Final = 120.0
STOP_S: Final = 75.0
# From which address the proxy reaches web here.
PROXY_ADDRESS: Final = "127.0.0.1"
_TEMPLATE: Final = compose.ROOT / "docs" / "ops" / "nginx.conf.template"
# What the image of nginx has around the template.
_NGINX: Final = """
daemon off;
master_process on;
worker_processes 1;
error_log stderr warn;
pid {folder}/nginx.pid;
{user}
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


class ManyProcesses:
    """PostgreSQL, Redis, two webs, worker, inference and proxy, none of them started yet.

    `settings`: of the site's own processes, besides those of the file.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._settings = dict(settings)
        self.data_dir = folder / "data"
        (self.data_dir / "run").mkdir(parents=True)
        names = ("postgres", "redis", "web-1", "web-2", "http", "https")
        self.ports = {name: free_port() for name in names}
        self.url = f"https://localhost:{self.ports['https']}"
        self._services = compose.services(self._values())
        self._cluster: Path | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        """Start everything in the order in which the file says that it depends on each other."""
        self._start_postgres()
        self.start("redis")
        wait_for(lambda: listens(self.ports["redis"]), START_S)
        self.run("migrate")
        for name in ("inference", "web-1", "web-2", "worker", "proxy"):
            self.start(name)
        for name in ("web-1", "web-2", "https"):
            wait_for(lambda name=name: listens(self.ports[name]), START_S)  # type: ignore[misc]
        for name in ("web-1", "web-2", "inference"):
            wait_for(lambda name=name: self.is_healthy(name), START_S)  # type: ignore[misc]

    def run(
        self, name: str, *command: str, told: str = "", settings: Mapping[str, str] | None = None
    ) -> str:
        """Run a service to its end, or another command in its place; return what it printed.

        `told`: what it reads. `settings`: more of its environment.
        """
        argv = self._argv(list(command) or self._services[name].command)
        environ = self.environment(name) | dict(settings or {})
        done = subprocess.run(
            argv, env=environ, input=told, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str) -> None:
        """Start a service."""
        argv = self._proxy_argv() if name == "proxy" else self._argv(self._command(name))
        with self.log(name).open("a") as log:
            self._running[name] = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_healthy(self, name: str) -> bool:
        """Ask what Docker asks to know whether a service is well."""
        kind, *command = [str(word) for word in self._services[name].told["healthcheck"]["test"]]
        command = [self._here_inside(word, name) for word in command]
        if kind == "CMD-SHELL":
            [line] = command
            command = ["sh", "-c", line.replace("celery ", f"{sys.executable} -m celery ", 1)]
        if name == "redis":
            command[1:1] = ["-p", str(self.ports["redis"])]
        command[0] = sys.executable if command[0] == "python3" else command[0]
        environ = self.environment(name) | {"HOSTNAME": socket.gethostname()}
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        return done.returncode == 0

    def stop(self, name: str, told: str = "") -> int:
        """Stop a service as `docker stop` does, or by another signal; return its exit code."""
        told = told or str(self._services[name].told.get("stop_signal", "SIGTERM"))
        process = self._running.pop(name)
        process.send_signal(signal.Signals[told])
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise

    def stop_all(self) -> None:
        """Stop everything, in the reverse order of the start; kill what does not end."""
        for name in reversed(list(self._running)):
            process = self._running.pop(name)
            process.send_signal(signal.SIGQUIT if name == "proxy" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            _kill(process)
        if self._cluster is not None:
            with contextlib.suppress(subprocess.CalledProcessError):  # it was never started
                self._as_postgres("pg_ctl", "-D", str(self._cluster), "-m", "immediate", "stop")
            shutil.rmtree(self._cluster.parent, ignore_errors=True)

    def database(self, name: str = "") -> psycopg.Connection[Any]:
        """Connect to the site's database, or to another of its server; every statement counts."""
        told = self._services["postgres"].environment
        return psycopg.connect(
            host="127.0.0.1",
            port=self.ports["postgres"],
            user=told["POSTGRES_USER"],
            password=told["POSTGRES_PASSWORD"],
            dbname=name or told["POSTGRES_DB"],
            autocommit=True,
        )

    def connections_of(self, name: str) -> int:
        """How many clients a service that listens has at this moment."""
        port, established = f":{self.ports[name]:04X}", "01"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] == established for row in rows)

    def log(self, name: str) -> Path:
        """Where a service's output is."""
        return self.folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a service that runs."""
        return self._running[name].pid

    @contextlib.contextmanager
    def no_answer_goes_on(self) -> Iterator[None]:
        """Stop the runners for a moment, as a machine that is too busy to run them would."""
        below = descendants(self.pid("inference"))
        runners = [pid for pid, line in below.items() if "inference.engine.runner" in line]
        assert runners
        for pid in runners:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in runners:
                os.kill(pid, signal.SIGCONT)

    def environment(self, name: str) -> dict[str, str]:
        """Return a service's environment; of this machine's only what programs need to be found."""
        of_machine = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        told = {key: self._here(value) for key, value in self._services[name].environment.items()}
        # The image's: where the code is, and no output held back.
        of_image = {"PYTHONPATH": str(compose.ROOT), "PYTHONUNBUFFERED": "1"}
        # A machine that does much else answers at a tenth of its speed where threads meet at
        # barriers: one thread, and answers are over within the drain time.
        return of_machine | of_image | told | {"OLLAMASITE_NUM_THREAD": "1"} | self._settings

    # ------------------------------------------------------------ from containers to here

    def _values(self) -> dict[str, str]:
        return {
            "SITE_NAME": "models.example",
            "TLS_DIR": str(self.folder),
            "COMPOSE_PROFILES": "cpu",
            "POSTGRES_PASSWORD": "of-the-test-only",
            "REDIS_PASSWORD": "redis-of-the-test-only",
            "OLLAMASITE_SECRET_KEY": "secret-key-of-the-test-only-0123456789-abcdefghij",
            "OLLAMASITE_KEY_PEPPER": "pepper-of-the-test-only-0123456789-abcdefghij",
            "PROXY_ADDRESS": PROXY_ADDRESS,
            "HTTPS_SUFFIX": f":{self.ports['https']}",
        }

    def _here(self, text: str) -> str:
        """Return a text with addresses of this machine for those of containers."""
        for name, inside in (
            ("postgres", 5432),
            ("redis", 6379),
            ("web-1", 11434),
            ("web-2", 11434),
        ):
            text = text.replace(f"{name}:{inside}", f"127.0.0.1:{self.ports[name]}")
        return str(self.data_dir) if text == "/data" else text

    def _here_inside(self, text: str, name: str) -> str:
        """Return a text with what a container has for itself as it is here."""
        port = self.ports["https"] if name == "proxy" else self.ports.get(name, 0)
        run = str(run_dir(self.data_dir))
        for inside, here in (("8443", str(port)), ("11434", str(port)), ("/data/run", run)):
            text = text.replace(inside, here)
        return text

    def _command(self, name: str) -> list[str]:
        command = self._services[name].command
        if name == "redis":
            # Of the image: a port inside, and the volume as working directory.
            own = ["--bind", "127.0.0.1", "--port", str(self.ports["redis"])]
            command = [*command, *own, "--dir", str(self.folder)]
        if name.startswith("web-"):
            replaced = {"0.0.0.0": "127.0.0.1", "11434": str(self.ports[name])}  # noqa: S104 - not bound
            command = [replaced.get(argument, argument) for argument in command]
        return command

    def _argv(self, command: list[str]) -> list[str]:
        program, *arguments = command
        return [*_PROGRAMS.get(program, (program,)), *arguments]

    def _proxy_argv(self) -> list[str]:
        make_certificate(self.folder)
        words = dict(self._services["proxy"].environment)
        words |= {
            "HTTP_PORT": f"127.0.0.1:{self.ports['http']}",
            "HTTPS_PORT": f"127.0.0.1:{self.ports['https']}",
            "CERTIFICATE_DIR": str(self.folder),
            # There is no DNS of Docker's here, and nothing that it would tell.
            "WEB_SERVERS": self._here(
                words["WEB_SERVERS"].partition(";")[2].replace(" resolve", "")
            ),
        }
        site = _TEMPLATE.read_text()
        for word, value in words.items():
            site = site.replace(f"${{{word}}}", value)
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = self.folder / "nginx.conf"
        configuration.write_text(_NGINX.format(folder=self.folder, user=user, site=site))
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "nginx is missing: install nginx-light"
        return [nginx, "-e", "stderr", "-p", str(self.folder), "-c", str(configuration)]

    def _start_postgres(self) -> None:
        told = self._services["postgres"].environment
        # Not below pytest's own folder, which is closed to the user that the server runs as.
        home = Path(tempfile.mkdtemp(prefix="ollamasite-cluster-"))
        cluster, words = home / "cluster", home / "password"
        words.write_text(told["POSTGRES_PASSWORD"])
        if user := postgres_user():
            for path in (home, words):
                shutil.chown(path, user)
        self._cluster = cluster
        owner = ["-U", told["POSTGRES_USER"], "-A", "scram-sha-256", f"--pwfile={words}"]
        self._as_postgres("initdb", "-D", str(cluster), *owner, "-E", "UTF8", "--no-sync")
        options = self._services["postgres"].command[1:]
        address = ["-h", "127.0.0.1", "-p", str(self.ports["postgres"]), "-k", ""]
        all_of_it = " ".join([*options, *(f"'{word}'" for word in address), "-c fsync=off"])
        log = ["-l", str(cluster / "log")]
        self._as_postgres("pg_ctl", "-D", str(cluster), *log, "-w", "-o", all_of_it, "start")
        with self.database("postgres") as connection:
            connection.execute(f"CREATE DATABASE {told['POSTGRES_DB']}")

    def _as_postgres(self, program: str, *arguments: str) -> None:
        command = [postgres_program(program), *arguments]
        subprocess.run(
            command,
            user=postgres_user(),
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    # What the image's PATH names, of the environment and the tree that the tests run in.
    "ollamasite": (sys.executable, "-m", "ollamasite"),
}


@contextlib.contextmanager
def many_processes(folder: Path, **settings: str) -> Iterator[ManyProcesses]:
    """Run everything of the compose file, with more settings of the site."""
    site = ManyProcesses(folder, settings)
    try:
        site.start_all()
        yield site
    finally:
        site.stop_all()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
