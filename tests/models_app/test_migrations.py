"""What migrations do to rows that are there already."""

from importlib import import_module

import pytest
from django.apps import apps

from models_app.models import Manifest
from tests.conftest import MakeModel

pytestmark = pytest.mark.django_db


def test_sizes_of_older_manifests_are_filled_in(make_model: MakeModel) -> None:
    make_model("tiny", system="x")
    size_bytes = Manifest.objects.get().size_bytes
    Manifest.objects.update(size_bytes=0)
    import_module("models_app.migrations.0003_uploads_and_sizes").fill_sizes(apps, None)

    assert Manifest.objects.get().size_bytes == size_bytes > 0
