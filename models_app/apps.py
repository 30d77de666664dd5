"""The app's name on admin pages. Knows no table."""

from django.apps import AppConfig


class ModelsAppConfig(AppConfig):
    """Models, people and keys as a Django app."""

    name = "models_app"
    verbose_name = "Administration"

    def ready(self) -> None:
        """Have sign-ins recorded, and changes of keys and people seen at once where they are made.

        Other processes see them when they look next.
        """
        # Not at the top: they need tables, which are there only now.
        from models_app import principal_cache
        from models_app.sign_ins import record_sign_ins

        principal_cache.forget_on_changes()
        record_sign_ins()
