"""The WebSocket routes of this app. Knows nothing else."""

from typing import Any, Final

from django.urls import URLPattern, path

from inference.chat_consumer import ChatsConsumer
from inference.consumers import ChatConsumer

_chat: Any = ChatConsumer.as_asgi()
_chats: Any = ChatsConsumer.as_asgi()

websocket_urlpatterns: Final[list[URLPattern]] = [
    path("ws/chat", _chat),
    path("ws/chats", _chats),
]
