"""Wires up what every Django process needs: the Celery application, the check of new templates.

Knows nothing of what either is used for.
"""

from django.apps import AppConfig


class OllamasiteConfig(AppConfig):
    """The wiring of the site as a Django app."""

    name = "ollamasite"
    verbose_name = "Site"

    def ready(self) -> None:
        """Make our Celery application everybody's, and tell the registry how to read templates."""
        # Not at the top: tasks may import models, which exist only now.
        from inference.prompting.errors import TemplateError
        from inference.prompting.ollama import variables
        from ollamasite.celery import app
        from registry.template_check import use_check

        app.set_default()
        use_check(variables, TemplateError)
