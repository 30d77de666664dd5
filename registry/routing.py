"""The WebSocket routes of this app. Knows nothing else."""

from typing import Any, Final

from django.urls import URLPattern, path

from registry.consumers import JobsConsumer

_jobs: Any = JobsConsumer.as_asgi()

websocket_urlpatterns: Final[list[URLPattern]] = [
    path("ws/jobs", _jobs),
]
