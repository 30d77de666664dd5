"""The WebSocket routes of this app. Knows nothing else."""

from typing import Any, Final

from django.urls import URLPattern, path

from inference.consumers import ChatConsumer

_chat: Any = ChatConsumer.as_asgi()

websocket_urlpatterns: Final[list[URLPattern]] = [
    path("ws/chat", _chat),
]
