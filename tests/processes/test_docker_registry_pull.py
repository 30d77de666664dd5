"""Pull from Debian's `docker-registry`: open, with a password, with tokens."""

from typing import Any

import pytest

from models_app.models import User
from models_app.permissions import Verb
from registry import sealing
from registry.errors import RegistryFailed
from registry.library import delete_model, resolve
from registry.progress import Progress, ignore
from registry.pull import PullArguments, pull_model
from registry.push import PushArguments, push_model
from registry.remote.client import RetryPolicy
from tests.conftest import MakeModel, principal_for
from tests.processes.docker_registry import (  # noqa: F401 - fixtures
    DockerRegistry,
    open_registry,
    password_registry,
    token_registry,
)

pytestmark = [pytest.mark.slow, pytest.mark.beside]
QUICK = RetryPolicy(tries=2, base_s=0.01)


@pytest.fixture(params=["open_registry", "password_registry", "token_registry"])
def docker(request: pytest.FixtureRequest, settings: Any) -> DockerRegistry:
    registry: DockerRegistry = request.getfixturevalue(request.param)
    settings.ALLOWED_REGISTRIES = [registry.url]
    return registry


def login(registry: DockerRegistry) -> dict[str, Any]:
    sealed = sealing.seal(registry.password) if registry.password else ""
    return {"username": registry.username, "sealed_password": sealed}


def test_model_comes_back_as_it_went(
    docker: DockerRegistry, make_model: MakeModel, alice: User
) -> None:
    principal = principal_for(alice)
    name = make_model(f"{docker.host}/ns/tiny:q4", alice)
    digest = resolve(principal, name, Verb.READ).digest
    push_model(principal, PushArguments(name=name, **login(docker)), ignore, policy=QUICK)
    delete_model(principal, name)
    told: list[Progress] = []

    pull_model(principal, PullArguments(name=name, **login(docker)), told.append, policy=QUICK)

    assert resolve(principal, name, Verb.USE).digest == digest
    assert told[-1].status == "success"


def test_missing_model_is_told_in_ollamas_words(docker: DockerRegistry, alice: User) -> None:
    arguments = PullArguments(name=f"{docker.host}/ns/none", **login(docker))

    with pytest.raises(RegistryFailed, match="pull model manifest: file does not exist"):
        pull_model(principal_for(alice), arguments, ignore, policy=QUICK)


@pytest.mark.parametrize("docker", ["password_registry", "token_registry"], indirect=True)
def test_wrong_password_is_told(docker: DockerRegistry, alice: User) -> None:
    arguments = PullArguments(
        name=f"{docker.host}/ns/tiny", username="lab", sealed_password=sealing.seal("wrong")
    )
    with pytest.raises(RegistryFailed, match="unauthorized"):
        pull_model(principal_for(alice), arguments, ignore, policy=QUICK)
