"""Which requests take the short way through Django."""

import pytest
from django.conf import settings

from ollamasite.key_handler import KeyHandler, carries_key


@pytest.mark.parametrize(
    ("path", "headers", "is_short"),
    [
        ("/api/tags", [(b"authorization", b"Bearer x")], True),
        ("/v1/models", [(b"x-api-key", b"x")], True),
        ("/api/tags", [(b"authorization", b"Basic eDp5")], True),
        ("/api/tags", [], False),
        ("/api/tags", [(b"authorization", b" ")], False),
        ("/api/tags", [(b"cookie", b"ollamasite_session=x")], False),
        ("/home", [(b"authorization", b"Bearer x")], False),
        ("/apiary", [(b"authorization", b"Bearer x")], False),
    ],
)
def test_only_api_requests_with_a_key_do(
    path: str, headers: list[tuple[bytes, bytes]], *, is_short: bool
) -> None:
    assert carries_key({"path": path, "headers": headers}) is is_short


def test_the_settings_of_pages_are_as_before() -> None:
    before = list(settings.MIDDLEWARE)
    KeyHandler()
    assert before == settings.MIDDLEWARE
    assert "models_app.gate.GateMiddleware" in settings.KEY_MIDDLEWARE
