"""Makes a data directory with the users, keys and models that a measurement needs.

Run as `python -m bench.site_setup` with OLLAMASITE_DATA_DIR set: reads a `Wanted` as JSON from
standard input and writes `{user: key}`. Goes through the site's own use cases; knows no server.
"""

import sys
from pathlib import Path

import django
import msgspec
from django.core.management import call_command

from ollamasite import data_dir


class WantedModel(msgspec.Struct):
    """A model in the library, visible to all."""

    name: str
    file: str
    template: str
    system: str = ""


class Wanted(msgspec.Struct):
    """What shall be there."""

    data_dir: str
    users: list[str]
    models: list[WantedModel]


def main() -> None:
    """Make it."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    data_dir.prepare(Path(wanted.data_dir))
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    for model in wanted.models:
        _create_model(model)
    keys = {name: _create_user(name) for name in wanted.users}
    sys.stdout.write(msgspec.json.encode(keys).decode())


def _create_model(wanted: WantedModel) -> None:
    # Only behind django.setup() may these be imported.
    from registry.blobs import blob_store
    from registry.create import CreateModel, create_model

    path = Path(wanted.file)
    stored = blob_store().import_file(path)
    create_model(
        CreateModel(
            name=wanted.name,
            principal=None,
            files={path.name: stored.digest},
            template=wanted.template,
            system=wanted.system,
        )
    )


def _create_user(name: str) -> str:
    from models_app.accounts import create_user
    from models_app.keys import create_key

    user = create_user(name, f"{name} of the benchmark")
    _, secret = create_key(user, "benchmark")
    return secret


if __name__ == "__main__":
    main()
