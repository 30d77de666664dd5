"""Templates known by sight."""

import pytest

from registry.known_templates import CHATML, known_template
from tests.gguf_files import CHATML_JINJA

LOOP = CHATML_JINJA
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nHi<|im_end|>' }}{% endif %}"
)


def test_messages_between_chatmls_tokens_are_chatml() -> None:
    assert known_template(LOOP) is CHATML


def test_a_system_text_of_the_template_is_not_looked_at() -> None:
    assert known_template(OWN_SYSTEM + LOOP) is CHATML


@pytest.mark.parametrize(
    "jinja",
    [
        "",
        "{{ messages[0].content }}",
        LOOP.replace("im_start", "begin"),
        LOOP + "{% if tools %}{{ tools }}{% endif %}",
        LOOP + "{% if enable_thinking %}<think>{% endif %}",
        LOOP + "<|endoftext|>",
        LOOP + " " * 1000,
        LOOP.replace("message['content']", "message.content['text']"),
    ],
)
def test_whatever_does_more_is_not(jinja: str) -> None:
    assert known_template(jinja) is None
