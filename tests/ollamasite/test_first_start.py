"""The banner: what is shown once, and what every time."""

from models_app.accounts import FirstAdmin
from ollamasite.first_start import banner

ADMIN = FirstAdmin(username="admin", password="pass-word-1", api_key="osk-abc-def")
URL = "http://127.0.0.1:11434"


def test_first_start_shows_sign_in_and_key() -> None:
    text = banner(URL, ADMIN, "smollm2:135m")

    assert URL in text
    assert "pass-word-1" in text
    assert "osk-abc-def" in text


def test_curl_line_can_be_pasted_as_it_is() -> None:
    (line,) = (line for line in banner(URL, ADMIN, "m:1").splitlines() if "curl" in line)

    assert line.strip() == (
        f'curl {URL}/api/chat -H "Authorization: Bearer osk-abc-def" -d '
        '\'{"model": "m:1", "messages": [{"role": "user", "content": "Why is the sky blue?"}], '
        '"stream": false}\''
    )


def test_curl_line_without_a_model_lists_models() -> None:
    assert f"curl {URL}/api/tags -H" in banner(URL, ADMIN, None)


def test_later_starts_show_the_address_only() -> None:
    lines = [line.strip() for line in banner(URL, None, "smollm2:135m").splitlines()]

    assert [line for line in lines if line.strip("= ")] == [f"ollamasite is at {URL}"]
