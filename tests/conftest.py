"""What every test may use: the cast, clients that speak for them, a store and tiny models.

Alice owns, Bob is another user, Mallory must learn nothing, Admin runs the site. Every test has a
blob store of its own.
"""

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from django.contrib.contenttypes.management import create_contenttypes
from django.db import connections
from django.db.models.signals import post_migrate
from django.test import AsyncClient, TransactionTestCase, override_settings
from pytest_django.fixtures import Settings

from inference import client as engine_client
from inference import roster
from models_app import key_uses, ledger_writer, principal_cache
from models_app.accounts import create_user
from models_app.keys import create_key
from models_app.limit_book import forget_rules
from models_app.models import User
from models_app.permissions import CredentialKind, Principal
from ollamasite import outages
from ollamasite.celery import app as celery
from registry.blobs import BlobStore, blob_store
from registry.create import CreateModel, create_model
from registry.library import ResolvedModel
from tests.emptying import empty_databases, has_broken_connection
from tests.gguf_files import write_tiny_model
from tests.job_worker import running_worker

# Sites, load, browsers.
_LONG_FIRST = ("processes", "load", "pages")
PASSWORD = "correct horse battery staple"


class MakeModel(Protocol):
    """Creates a model from the tiny GGUF file, or from `base`, and returns its display name."""

    def __call__(
        self,
        name: str,
        owner: User | None = None,
        *,
        base: ResolvedModel | None = None,
        **changes: Any,
    ) -> str: ...


# How long an example takes is the machine's business; pytest's own time limit holds for the test.
hypothesis.settings.register_profile("site", deadline=None)
hypothesis.settings.load_profile("site")


def pytest_configure() -> None:
    """Collect tests without collecting garbage: what comes into being then stays to the end."""
    gc.disable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests alone are asked for, do not import the files that have none: 20 s of CPU.

    Faults are provoked and images built only where they are asked for.
    """
    for name in ("faults", "images"):
        if collection_path.name == name and name not in config.option.markexpr:
            return True
    if not config.option.markexpr.startswith("slow") or not collection_path.match("test_*.py"):
        return None
    return None if _speaks_of_slow(collection_path) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """See that no slow test is lost by that: its file must say so in its own text.

    Files that take long come first, so that no other process waits for one of them at the end.
    """
    for path in {item.path for item in items if item.get_closest_marker("slow")}:
        if not _speaks_of_slow(path):
            raise pytest.UsageError(f"{path}: its slow tests would not run, it never says `.slow`")
    yield
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    """Return the place of a file's folder among those whose files take long."""
    return next(
        (place for place, folder in enumerate(_LONG_FIRST) if folder in path.parts),
        len(_LONG_FIRST),
    )


def _speaks_of_slow(path: Path) -> bool:
    return ".slow" in path.read_text()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over the million objects that collecting tests has made.

    It would go through them several times a second, and now and then stop a test for half of one.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A file, as on a site: threads that share a database in memory lock each other out."""
    # Emptying the database after a test would fill these tables again, which no test reads.
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    path = tmp_path_factory.mktemp("database") / "test.sqlite3"
    database = connections["default"].settings_dict
    if connections["default"].vendor != "sqlite":
        return
    database["TEST"]["NAME"] = str(path)
    # Nothing has to survive a power cut: without this, every test waits for the disk.
    commands = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
    database["OPTIONS"] = {**database["OPTIONS"], "init_command": commands}


@pytest.fixture(autouse=True, scope="session")
def _settings_of_all_tests() -> Iterator[None]:
    """What no test depends on; one that does sets its own."""
    with override_settings(
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        # All tests come from one address, and some are wrong on purpose.
        WRONG_KEYS_PER_MINUTE=0,
        SIGN_UPS_PER_HOUR=0,
        SIGN_INS_PER_MINUTE=0,
        # No test asks a registry that it has not made.
        ALLOWED_REGISTRIES=[],
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    ):
        yield


@pytest.fixture(autouse=True, scope="session")
def _databases_are_emptied_quickly() -> Iterator[None]:
    """Behind a test whose transactions are real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_databases)
        # Connections stay: a new one learns the whole schema again.
        patch.setattr(TransactionTestCase, "_should_reload_connections", has_broken_connection)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_survives_a_power_cut() -> Iterator[None]:
    """No test waits for the disk; making a model for one would do so a dozen times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_heartbeats() -> Iterator[None]:
    """What is to be brought about by an event is not brought about by a heartbeat soon after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_client, "HEARTBEAT_S", 3600.0)
        yield


@pytest.fixture(scope="session")
def _folders_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder for each test. Twelve thousand tests share the work, so they do little of it.

    Pytest's own `tmp_path` reads the names of all that there are already, for each.
    """
    folder = tmp_path_factory.mktemp("t")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture
def tmp_path(_folders_of_tests: Iterator[Path]) -> Path:
    """A folder of the test's own, empty."""
    path = next(_folders_of_tests)
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _site_anew(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A test knows nothing of another, and its blob store and its ledger are empty."""
    # There are no further nodes, and nobody looks: that depends on the clock.
    roster._roster.read_at, roster._roster.nodes = float("inf"), []
    principal_cache.forget_all()
    key_uses.forget()
    forget_rules()
    for outage in vars(outages).values():
        if isinstance(outage, outages.Outage):
            outage._began_s = None
    channel_layers.backends.clear()
    settings.BLOBS_DIR = tmp_path / "blobs"
    # What a test has served becomes rows only where the test says so.
    settings.LEDGER_DIR = tmp_path / "ledger"
    yield
    ledger_writer.finish()


@pytest.fixture
def store() -> BlobStore:
    """The site's blob store, empty."""
    return blob_store()


@pytest.fixture(autouse=True, scope="session")
def _jobs_at_once() -> None:
    """Whoever submits a job does it on the spot: no broker and no worker are there."""
    celery.loader.import_default_modules()
    celery.conf.update(task_always_eager=True, task_eager_propagates=True, broker_url="memory://")


@pytest.fixture
def jobs_wait() -> Iterator[None]:
    """Jobs wait for a worker."""
    celery.conf.update(task_always_eager=False)
    yield
    celery.conf.update(task_always_eager=True)


@pytest.fixture
def job_worker(transactional_db: None, jobs_wait: None) -> Iterator[None]:
    """Jobs are done by a thread, as by a worker, and not by whoever submits them."""
    with running_worker():
        yield


@pytest.fixture
def alice(db: None) -> User:
    """Owns things."""
    return create_user("alice", PASSWORD)


@pytest.fixture
def bob(db: None) -> User:
    """Has nothing to do with Alice."""
    return create_user("bob", PASSWORD)


@pytest.fixture
def mallory(db: None) -> User:
    """Tries what she may not."""
    return create_user("mallory", PASSWORD)


@pytest.fixture
def admin(db: None) -> User:
    """Runs the site."""
    return create_user("root", PASSWORD, is_admin=True)


def principal_for(user: User) -> Principal:
    """Return the user as whoever sent a request."""
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=user.is_superuser,
        kind=CredentialKind.KEY,
    )


class KeyClient(AsyncClient):
    """A client that sends an API key of its user with every request."""

    def __init__(self, user: User) -> None:
        super().__init__()
        self._user = user
        self._header: tuple[bytes, bytes] | None = None

    async def request(self, **request: Any) -> Any:
        """Send a request. AsyncClient would lose headers that are given once for all."""
        if self._header is None:
            _, secret = await sync_to_async(create_key)(self._user, "test key")
            self._header = (b"authorization", f"Bearer {secret}".encode())
        request["headers"] = [*request["headers"], self._header]
        return await super().request(**request)


@pytest.fixture
def client_for(db: None) -> Callable[[User], KeyClient]:
    """Make a client that speaks for a user."""
    return KeyClient


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file that llama.cpp can load."""
    return write_tiny_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def make_model(db: None, store: BlobStore, tiny_gguf: Path) -> MakeModel:
    """Create models; without an owner, in the site's name and so in the library."""

    def make(
        name: str,
        owner: User | None = None,
        *,
        base: ResolvedModel | None = None,
        **changes: Any,
    ) -> str:
        files = None if base else {"tiny.gguf": store.import_file(tiny_gguf).digest}
        principal = principal_for(owner) if owner else None
        request = CreateModel(name=name, principal=principal, base=base, files=files, **changes)
        return create_model(request).short

    return make
