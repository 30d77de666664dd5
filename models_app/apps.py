"""The app's name on admin pages. Knows no table."""

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError

from models_app.name_patterns import check_patterns


class ModelsAppConfig(AppConfig):
    """Models, people and keys as a Django app."""

    name = "models_app"
    verbose_name = "Administration"

    def ready(self) -> None:
        """Have sign-ins recorded, and changes of keys and people seen at once where they are made.

        Other processes see them when they look next. A list that cannot be read stops the start.
        """
        try:
            check_patterns(settings.ALLOWED_MODELS)
        except ValidationError as error:
            refused = f"OLLAMASITE_ALLOWED_MODELS: {' '.join(error.messages)}"
            raise ImproperlyConfigured(refused) from error
        # Not at the top: they need tables, which are there only now.
        from models_app import principal_cache
        from models_app.sign_ins import record_sign_ins

        principal_cache.forget_on_changes()
        record_sign_ins()
