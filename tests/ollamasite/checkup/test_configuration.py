"""Settings that contradict each other, one by one."""

from typing import Any

import pytest
from django.core import checks
from pytest_django.fixtures import Settings

from ollamasite.checkup import configuration
from tests.ollamasite.checkup.found import codes


@pytest.fixture(autouse=True)
def _sound(settings: Settings) -> None:
    settings.KEY_PEPPER = "p" * 40


def test_sound_settings_are_well() -> None:
    assert codes(configuration.look()) == set()


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        ({"settings.debug"}, {"DEBUG": True}),
        ({"settings.debug", "settings.no-tls"}, {"DEBUG": True, "BIND_HOST": "0.0.0.0"}),  # noqa: S104
        ({"settings.no-tls"}, {"BIND_HOST": "10.0.0.1"}),
        ({"settings.no-host"}, {"SECURE_SSL_REDIRECT": True}),
        (
            {"settings.proxy-without-https", "settings.no-tls"},
            {"TRUSTED_PROXIES": ["10.0.0.7/32"], "BIND_HOST": "10.0.0.1"},
        ),
        ({"settings.wide-proxies"}, {"TRUSTED_PROXIES": ["0.0.0.0/0"]}),
        ({"settings.wide-proxies"}, {"TRUSTED_PROXIES": ["2000::/3"]}),
        (set(), {"TRUSTED_PROXIES": ["127.0.0.0/8", "::1/128", "10.0.0.0/24"]}),
        ({"secrets.short"}, {"KEY_PEPPER": "short"}),
        ({"secrets.same"}, {"KEY_PEPPER": "s" * 60, "SECRET_KEY": "s" * 60}),
        ({"settings.open-redis"}, {"REDIS_URL": "redis://10.0.0.3:6379/0"}),
        (set(), {"REDIS_URL": "redis://:secret@10.0.0.3:6379/0"}),
        (set(), {"REDIS_URL": "redis://127.0.0.1:6379/0"}),
        ({"django.models.E004"}, {}),
    ],
    ids=lambda words: ",".join(sorted(words)),
)
def test_contradictions_are_found(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    expected: set[str],
    values: dict[str, Any],
) -> None:
    if expected == {"django.models.E004"}:
        problem = checks.Error("A model is wrong.", id="models.E004")
        monkeypatch.setattr(checks, "run_checks", lambda: [problem])
    for name, value in values.items():
        setattr(settings, name, value)
    assert codes(configuration.look()) == expected
