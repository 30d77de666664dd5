"""`docker-compose.yml` run by Docker: images built, a project of its own, taken away afterwards.

Knows docker's commands and the words of the file; nothing of what the site answers.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests import compose
from tests.certificates import make_certificate
from tests.processes.running_site import free_port

IMAGE: Final = "ollamasite:images-test"
# Not the site's own, which may run here.
_PROJECT: Final = "ollamasite-images-test"
_SUBNET, _RANGE, _PROXY_ADDRESS = "172.30.79.0/24", "172.30.79.128/25", "172.30.79.2"
# llama.cpp is compiled in it.
_BUILD_S: Final = 3600.0
# Two processors that do much else.
_COMMAND_S: Final = 900.0


def missing() -> str:
    """Say what this machine lacks, or nothing."""
    for command in (["docker", "version"], ["docker", "buildx", "version"], ["docker", "compose"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "docker is not installed"
        if done.returncode:
            return f"`{' '.join(command)}` does not work: {done.stderr.strip()}"
    return ""


def build(target: str) -> None:
    """Build a target of the Dockerfile; its steps are printed as they come."""
    command = ["docker", "buildx", "build", "--target", target, "--tag", IMAGE, "--load", "."]
    subprocess.run(command, cwd=compose.ROOT, check=True, timeout=_BUILD_S)


def inspect(name: str) -> dict[str, Any]:
    """Return what Docker knows of an image or a container."""
    found = json.loads(_run(["docker", "inspect", name]))[0]
    assert isinstance(found, dict)
    return found


def run_in_image(script: str) -> str:
    """Run a Python script as the image's user, without a network; return what it prints."""
    command = ["docker", "run", "--rm", "--interactive", "--network", "none", IMAGE]
    return _run([*command, "python3", "-"], told=script)


class Containers:
    """All containers of the file; `folder` has their `.env` and certificate."""

    def __init__(self, folder: Path) -> None:
        """Write what the file wants to know. Nothing is started yet."""
        self.folder = folder
        port = free_port()
        self.url = f"https://localhost:{port}"
        self.certificate = make_certificate(folder)
        # nginx runs as 101.
        for path in (folder, folder / "tls.key"):
            path.chmod(0o755)
        values = {
            "SITE_NAME": "localhost",
            "TLS_DIR": folder,
            "COMPOSE_PROFILES": "cpu",
            "POSTGRES_PASSWORD": "of-the-test-only",
            "REDIS_PASSWORD": "redis-of-the-test-only",
            "OLLAMASITE_SECRET_KEY": "secret-key-of-the-test-only-0123456789-abcdefghij",
            "OLLAMASITE_KEY_PEPPER": "pepper-of-the-test-only-0123456789-abcdefghij",
            "HTTP_PUBLISHED": f"127.0.0.1:{free_port()}",
            "HTTPS_PUBLISHED": f"127.0.0.1:{port}",
            "HTTPS_SUFFIX": f":{port}",
            "PROXY_SUBNET": _SUBNET,
            "WEB_RANGE": _RANGE,
            "PROXY_ADDRESS": _PROXY_ADDRESS,
        }
        lines = (f"{name}={value}\n" for name, value in values.items())
        (folder / ".env").write_text("".join(lines))
        told = compose.read({name: str(value) for name, value in values.items()})["services"]
        own = [name for name, service in told.items() if service["image"] == "ollamasite:cpu"]
        override = {"services": {name: {"image": IMAGE} for name in own}}
        (folder / "override.yml").write_text(yaml.safe_dump(override))

    def compose(self, *arguments: str, told: str = "") -> str:
        """Run `docker compose` with these arguments and return what it prints."""
        files = [str(compose.FILE), str(self.folder / "override.yml")]
        options = [word for file in files for word in ("--file", file)]
        options += ["--env-file", str(self.folder / ".env"), "--project-name", _PROJECT]
        return _run(["docker", "compose", *options, *arguments], told=told)

    def start(self) -> None:
        """Start all of them and wait until they are well."""
        self.compose("up", "--no-build", "--detach", "--wait")

    def run(self, service: str, *command: str, told: str = "") -> str:
        """Run a command in a container that is there."""
        return self.compose("exec", "--no-TTY", service, *command, told=told)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker knows of each container, by its service; of those that have ended too."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = [inspect(container) for container in ids]
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def remove(self) -> None:
        """Remove the containers, their networks and their volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def logs(self) -> str:
        """What they have written, the last lines of each."""
        return self.compose("logs", "--no-color", "--tail", "60")


@contextlib.contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    """Start all containers of the file; remove them and their volumes at the end."""
    site = Containers(folder)
    site.remove()
    try:
        try:
            site.start()
        except AssertionError as error:
            pytest.fail(f"{error}\n{site.logs()}")
        yield site
    finally:
        site.remove()


def _run(command: list[str], told: str = "") -> str:
    done = subprocess.run(
        command,
        cwd=compose.ROOT,
        # What the tests' own environment says of the site would count for more than the `.env`.
        env={name: value for name, value in os.environ.items() if "OLLAMASITE" not in name},
        input=told,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
