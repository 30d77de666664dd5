"""Background jobs of the registry: each loads, calls and returns. Knows no file and no format."""

from celery import shared_task

from registry import starter


@shared_task(name="registry.create_starter_model")
def create_starter_model() -> str | None:
    """Create the starter model; return its name, or None where the site has models already."""
    return starter.create_starter_model()
