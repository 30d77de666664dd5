"""`docker-compose.yml`, `Dockerfile` and the proxy's configuration, as far as they hold unrun.

Their commands are run by tests/processes/test_many_processes.py.
"""

import json
import re
import subprocess
import sys
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

import compose_spec
import pytest
from django.conf import settings

from ollamasite.env import env
from tests import compose

VALUES: Final = {
    "SITE_NAME": "models.example",
    "TLS_DIR": "/etc/tls",
    "COMPOSE_PROFILES": "cpu",
    "POSTGRES_PASSWORD": "a",
    "REDIS_PASSWORD": "d",
    "OLLAMASITE_SECRET_KEY": "b",
    "OLLAMASITE_KEY_PEPPER": "c",
}
OWN: Final = ("migrate", "web-1", "web-2", "worker", "inference", "inference-gpu")
DOCKERFILE: Final = compose.ROOT / "Dockerfile"
TEMPLATE: Final = compose.ROOT / "docs" / "ops" / "nginx.conf.template"


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment that the tests run in."""
    program = str(Path(sys.executable).with_name(name))
    return subprocess.run([program, *arguments], cwd=compose.ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return compose.read(VALUES)


def test_compose_file_is_one() -> None:
    content = compose_spec.PyCompose.from_json(json.dumps(compose.read(VALUES)))

    content.validate()
    assert set(content.service_names()) == {*OWN, "postgres", "redis", "proxy"}


def test_linters_find_nothing_grave() -> None:
    compose_lint = tool("compose-lint", "--fail-on", "high", "docker-compose.yml")
    dockerfile = tool("hadolint", "Dockerfile")

    assert compose_lint.returncode == 0, compose_lint.stdout
    assert (dockerfile.returncode, dockerfile.stdout) == (0, "")


@pytest.mark.parametrize("name", VALUES)
def test_nothing_starts_without_what_only_the_operator_knows(name: str) -> None:
    given = {key: value for key, value in VALUES.items() if key != name}

    with pytest.raises(compose.MissingVariable):
        compose.read(given)
    assert {key for key, default in compose.variables().items() if default is None} == set(VALUES)


def test_containers_can_do_little(told: dict[str, Any]) -> None:
    for name, service in told["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["user"] not in {"", "root", "0", "0:0"}, name


def test_images_are_named_by_a_release(told: dict[str, Any]) -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    pulled = [service["image"] for service in told["services"].values() if "build" not in service]

    for image in {*bases, *pulled} - {"scratch"}:
        assert re.search(r":\d+\.\d+(\.\d+)?-", image), image


def copied() -> set[str]:
    """What the image has of this tree: files and folders of its top."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_image_has_what_is_copied_by_name_and_nothing_else() -> None:
    lines = (compose.ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert copied() == let_in
    assert lines[1] == "*"
    assert all((compose.ROOT / name).exists() for name in let_in)
    assert not {".", ".env", "tests"} & let_in


def test_secrets_beside_the_file_are_not_committed() -> None:
    assert "/.env" in (compose.ROOT / ".gitignore").read_text().splitlines()


def test_image_can_back_up_the_database(told: dict[str, Any]) -> None:
    server = re.search(r"postgres:(\d+)", told["services"]["postgres"]["image"])
    finals = re.split(r"^FROM .* AS (?=cuda|cpu)", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]

    assert len(finals) == 2
    assert all("postgresql-client" in stage for stage in finals)
    # Debian 12's; pg_dump refuses servers that are newer.
    assert server
    assert int(server[1]) <= 15


def test_every_service_but_one_that_ends_is_watched(told: dict[str, Any]) -> None:
    watched = {name for name, service in told["services"].items() if "healthcheck" in service}

    assert set(told["services"]) - watched == {"migrate"}


def test_slow_start_is_not_taken_for_illness(told: dict[str, Any]) -> None:
    checks = {
        name: service["healthcheck"]
        for name, service in told["services"].items()
        if "healthcheck" in service
    }

    assert {name for name, check in checks.items() if "start_period" not in check} == set()
    # The server that makes the database listens on the unix socket, and is gone a moment later.
    assert "--host" in checks["postgres"]["test"]
    # An answer that is an error (LOADING, NOAUTH) is none.
    assert "-e" in checks["redis"]["test"]


def test_stop_outlasts_the_drain(told: dict[str, Any]) -> None:
    drain_s = settings.DRAIN_S
    for name in ("web-1", "web-2", "worker", "inference", "proxy"):
        assert int(told["services"][name]["stop_grace_period"].removesuffix("s")) > drain_s + 10


def test_environment_is_what_the_site_reads() -> None:
    services = compose.services(VALUES)
    names = {name for service in OWN for name in services[service].environment}

    assert {name for name in names if name.startswith("OLLAMASITE_")} <= env.names
    assert services["web-1"].environment == services["web-2"].environment
    assert services["web-1"].command == services["web-2"].command


def test_only_the_proxy_is_believed_and_reached(told: dict[str, Any]) -> None:
    services = told["services"]
    trusted = services["web-1"]["environment"]["OLLAMASITE_TRUSTED_PROXIES"]

    assert services["proxy"]["networks"]["edge"]["ipv4_address"] == trusted
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}
    assert told["networks"]["inside"]["internal"] is True
    at_inside = {name for name, service in services.items() if "inside" in service["networks"]}
    # Nobody reaches the stores who has not the site's secrets anyhow.
    assert at_inside == {"postgres", "redis", "migrate", "web-1", "web-2", "worker"}
    assert services["redis"]["networks"] == services["postgres"]["networks"] == ["inside"]
    at_edge = {name for name, service in services.items() if "edge" in service["networks"]}
    assert at_edge == {"web-1", "web-2", "proxy"}


def test_nobody_is_given_the_proxys_address(told: dict[str, Any]) -> None:
    [edge] = told["networks"]["edge"]["ipam"]["config"]
    subnet, given = IPv4Network(edge["subnet"]), IPv4Network(edge["ip_range"])
    proxy = ip_address(told["services"]["proxy"]["networks"]["edge"]["ipv4_address"])

    assert proxy in subnet
    assert proxy not in given
    assert given.subnet_of(subnet)


def test_words_of_the_proxys_template_are_given(told: dict[str, Any]) -> None:
    environment = told["services"]["proxy"]["environment"]
    words = set(re.findall(r"\$\{(\w+)\}", TEMPLATE.read_text()))

    assert words <= environment.keys()
    # nginx's own variables must stay.
    assert all(re.search(environment["NGINX_ENVSUBST_FILTER"], word) for word in words)
    assert not re.search(environment["NGINX_ENVSUBST_FILTER"], "PATH")
    webs = [name for name in told["services"] if name.startswith("web-")]
    assert all(f"server {name}:11434 resolve" in environment["WEB_SERVERS"] for name in webs)
