"""Makes the Celery application known in every Django process, for `shared_task` and `delay`.

Knows nothing of the other apps.
"""

from django.apps import AppConfig


class OllamasiteConfig(AppConfig):
    """The wiring of the site as a Django app."""

    name = "ollamasite"
    verbose_name = "Site"

    def ready(self) -> None:
        """Make our Celery application the one that tasks of all threads belong to."""
        # Not at the top: its tasks may import models, which exist only now.
        from ollamasite.celery import app

        app.set_default()
