"""What holds for the whole: no route without a rule, no failure without its error, and so on."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

import inference.errors
import inference.routing
import models_app.errors
import registry.errors
import registry.routing
from inference.engine_stream import FAILURES
from inference.messages import FailureCode
from models_app.policy import PREFIXES, ROUTES, UNKNOWN, WEBSOCKETS, Access, is_under, rule_of
from ollamasite import errors
from ollamasite.env import env
from ollamasite.error_responses import Dialect, to_payload
from ollamasite.errors import ServiceError

ROOT = Path(settings.BASE_DIR)
PACKAGES = ("ollamasite", "models_app", "registry", "inference")
ERROR_MODULES = (errors, models_app.errors, registry.errors, inference.errors)


def served_routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from served_routes(pattern.url_patterns, route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route


def all_service_errors(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from all_service_errors(subclass)


def name_of(kind: type[ServiceError]) -> str:
    return kind.__name__


@functools.cache
def sources() -> dict[Path, ast.Module]:
    """Every module of the site, read."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path: ast.parse(path.read_text()) for path in paths}


def test_every_route_has_a_row_in_the_policy_table() -> None:
    routes = set(served_routes(get_resolver().url_patterns)) - ROUTES.keys()

    assert {route for route in routes if rule_of(route) is UNKNOWN} == set()


def test_every_prefix_of_the_policy_table_has_routes_of_its_own() -> None:
    routes = set(served_routes(get_resolver().url_patterns)) - ROUTES.keys()

    assert PREFIXES.keys() == {p for p in PREFIXES for route in routes if is_under(route, p)}
    assert {p for p in PREFIXES for route in ROUTES if is_under(route, p)} == set()


def test_every_row_of_the_policy_table_has_a_route() -> None:
    assert ROUTES.keys() - set(served_routes(get_resolver().url_patterns)) == set()


def test_every_route_is_named_once() -> None:
    routes = list(served_routes(get_resolver().url_patterns))

    assert sorted(routes) == sorted(set(routes))


def test_websocket_routes_are_the_rows_of_the_policy_table() -> None:
    routing = (inference.routing, registry.routing)
    patterns = [pattern for module in routing for pattern in module.websocket_urlpatterns]

    assert set(served_routes(patterns)) == WEBSOCKETS.keys()


def test_only_the_routes_that_must_be_are_public() -> None:
    public = {route for route, rule in ROUTES.items() if rule.access is Access.PUBLIC}

    assert public == {
        "healthz",
        "readyz",
        "signin",
        "signup",
        "invite",
        "invite/<str:secret>",
        "password/<uidb64>/<token>",
    }


def test_only_the_sign_of_life_has_open_methods() -> None:
    open_methods = {route: rule.open_methods for route, rule in ROUTES.items() if rule.open_methods}

    assert open_methods == {"": {"GET", "HEAD"}}


def test_every_api_route_asks_for_a_scope() -> None:
    routes = {route: rule for route, rule in ROUTES.items() if route.startswith(("api/", "v1/"))}

    # Whatever a key is for, who presents it may know who they are.
    assert {route for route, rule in routes.items() if rule.scope is None} == {
        "api/me",
        "api/me/delete",  # for sessions
        "api/nodes/join",  # for nodes
        "api/nodes/blobs/<str:digest>",
        "api/limits",
        # It alone may be presented to look at it, and to have it replaced or revoked.
        "api/keys/<str:prefix>",
        "api/keys/<str:prefix>/rotate",
    }
    assert [route for route, rule in WEBSOCKETS.items() if rule.scope is None] == []


def test_every_failure_of_the_engine_has_an_error() -> None:
    assert set(FAILURES) == set(FailureCode)


ALL_ERRORS: list[type[ServiceError]] = list(all_service_errors())


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=name_of)
def test_every_error_has_a_body_in_every_dialect(kind: type[ServiceError]) -> None:
    # Some have arguments of their own; what a body is made of is always the same.
    error = kind.__new__(kind)
    ServiceError.__init__(error, "why")
    shown = error.message

    assert to_payload(error, Dialect.NATIVE) == {"error": shown}
    openai = to_payload(error, Dialect.OPENAI)["error"]
    assert list(openai) == ["message", "type", "param", "code"]
    assert openai["message"] == shown
    assert 400 <= error.status < 600
    assert error.code


def test_errors_are_defined_where_they_belong() -> None:
    modules = {module.__name__ for module in ERROR_MODULES}

    assert {kind.__module__ for kind in all_service_errors()} <= modules


def test_codes_of_errors_are_unlike() -> None:
    codes = [kind.code for kind in all_service_errors() if "code" in vars(kind)]

    assert sorted(codes) == sorted(set(codes))


def test_error_tree_names_every_module_of_errors() -> None:
    tree = errors.__doc__ or ""

    assert [m.__name__ for m in ERROR_MODULES[1:] if m.__name__ not in tree] == []


def test_one_module_writes_error_bodies() -> None:
    writers = {
        path.relative_to(ROOT).as_posix()
        for path, module in sources().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Dict)
        and any(isinstance(key, ast.Constant) and key.value == "error" for key in node.keys)
    }

    assert writers == {"ollamasite/error_responses.py"}


def test_environment_is_read_in_one_place() -> None:
    allowed = {"ollamasite/env.py", "ollamasite/settings.py", "ollamasite/cli.py"}
    readers = {
        path.relative_to(ROOT).as_posix()
        for path, module in sources().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv", "putenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }

    assert readers - allowed == set()


def test_every_setting_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [name for name in sorted(env.names) if name not in readme] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path, module in sources().items()
        if path.stat().st_size and "migrations" not in path.parts and not ast.get_docstring(module)
    ]

    assert silent == []


@pytest.mark.parametrize("module", ["inference.engine.server", "inference.engine.runner"])
def test_engine_starts_where_there_is_no_web(module: str) -> None:
    web = ("django", "rest_framework", "channels", "celery", "asgiref", "ollamasite", "registry")
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in web)

    command = [sys.executable, "-c", f"import sys; {hide}import {module}"]
    subprocess.run(command, check=True, timeout=60)


def test_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
