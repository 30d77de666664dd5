"""The app's name on admin pages. Knows no table."""

from django.apps import AppConfig


class ModelsAppConfig(AppConfig):
    """Models, people and keys as a Django app."""

    name = "models_app"
    verbose_name = "Models"
