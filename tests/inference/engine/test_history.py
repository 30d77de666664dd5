"""Which messages of a chat are shown where not all fit: contract 6.3 and 8.3."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from inference.engine.history import first_true
from inference.engine.prompt import Prepared, prepare
from inference.messages import ChatMessage, ChatPrompt
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import asked
from tests.inference.prompting.templates import GO_TOOLS, JINJA_TOOLS
from tests.timing import takes_at_most

# Every text is followed by a blank.
WORDS = (
    "{{ if .System }}{{ .System }} {{ end }}{{ if .Prompt }}{{ .Prompt }} {{ end }}"
    "{{ if .Response }}{{ .Response }} {{ end }}"
)
TEST = "You're a test, Harry!"
WIZARD = "I-I'm a what?"
REALLY = "A test. And a thumping good one at that, I'd wager."


class WordModel(FakeModel):
    """A word is a token."""

    def __init__(self) -> None:
        super().__init__(window_tokens=100_000, sees=True)
        self.tokenized: list[str] = []

    def tokenize_part(self, text: str, *, parse_special: bool) -> list[int]:
        self.tokenized.append(text)
        return [7] * len(text.split())


def say(role: str, content: str, *images: bytes) -> ChatMessage:
    return ChatMessage(role=role, content=content, images=images)


def conversation(first: ChatMessage, answer: str, last: ChatMessage) -> list[ChatMessage]:
    return [first, say("assistant", answer), last]


def shown(messages: list[ChatMessage], limit: int, *, truncate: bool = True) -> Prepared:
    prompt = ChatPrompt(messages=tuple(messages), template=WORDS)
    request = asked("r1", num_ctx=limit, truncate=truncate, renders_only=True)
    return prepare(WordModel(), structs.replace(request, prompt=prompt))


HARRY = conversation(say("user", TEST), WIZARD, say("user", REALLY))
SEEN_LAST = conversation(say("user", TEST), WIZARD, say("user", REALLY, b"something"))
SEEN_TWICE = conversation(
    say("user", TEST, b"something"), WIZARD, say("user", REALLY, b"somethingelse")
)
SEEN_IN_PLACE = conversation(
    say("user", TEST, b"something"), WIZARD, say("user", f"[img]{REALLY}", b"somethingelse")
)
INTERLEAVED = [
    say("user", TEST),
    say("user", "", b"something"),
    say("user", "", b"somethingelse"),
    say("assistant", WIZARD),
    say("user", REALLY),
]
SYSTEM = [say("system", "You are the Test Who Lived."), *HARRY]
SYSTEM_LATER = [*HARRY[:1], say("assistant", WIZARD), SYSTEM[0], HARRY[2]]
BOTH_AT_ONCE = [say("user", f"{TEST} {REALLY}", b"something", b"somethingelse")]


@pytest.mark.parametrize(
    ("messages", "limit", "text", "image_count"),
    [
        pytest.param(HARRY, 64, f"{TEST} {WIZARD} {REALLY} ", 0, id="messages"),
        pytest.param(HARRY, 1, f"{REALLY} ", 0, id="truncate"),
        pytest.param(SEEN_LAST, 64, f"[img-0]{REALLY} ", 1, id="truncate with image"),
        pytest.param(SEEN_TWICE, 64, f"[img-0]{REALLY} ", 1, id="truncate with images"),
        pytest.param(
            SEEN_TWICE, 2048, f"[img-0]{TEST} {WIZARD} [img-1]{REALLY} ", 2, id="with images"
        ),
        pytest.param(
            SEEN_IN_PLACE, 2048, f"[img-0]{TEST} {WIZARD} [img-1]{REALLY} ", 2, id="image tag"
        ),
        pytest.param(
            INTERLEAVED,
            2048,
            f"{TEST}\n\n[img-0]\n\n[img-1] {WIZARD} {REALLY} ",
            2,
            id="interleaved images",
        ),
        pytest.param(
            INTERLEAVED, 1024, f"[img-0] {WIZARD} {REALLY} ", 1, id="interleaved, fewer fit"
        ),
        pytest.param(
            SYSTEM,
            2048,
            f"You are the Test Who Lived. {TEST} {WIZARD} {REALLY} ",
            0,
            id="system",
        ),
        pytest.param(
            SYSTEM_LATER,
            2048,
            f"{TEST} {WIZARD} You are the Test Who Lived. {REALLY} ",
            0,
            id="system out of order",
        ),
        pytest.param(SYSTEM, 18, f"You are the Test Who Lived. {REALLY} ", 0, id="system stays"),
        pytest.param(
            BOTH_AT_ONCE, 2048, f"[img-0][img-1]{TEST} {REALLY} ", 2, id="images of one message"
        ),
    ],
)
def test_as_much_is_shown_as_fits(
    messages: list[ChatMessage], limit: int, text: str, image_count: int
) -> None:
    found = shown(messages, limit)
    assert (found.rendered, found.image_count) == (text, image_count)


def test_without_truncate_everything_is_shown() -> None:
    assert shown(HARRY, 10, truncate=False).rendered == f"{TEST} {WIZARD} {REALLY} "


@pytest.mark.parametrize(("limit", "most"), [(100, 1), (30, 5), (12, 5), (1, 5)])
def test_a_conversation_is_tokenized_seldom(limit: int, most: int) -> None:
    model = WordModel()
    messages = tuple(say(("user", "assistant")[n % 2], f"{n} " * 9) for n in range(5))
    request = asked("r1", num_ctx=limit, renders_only=True)
    prompt = ChatPrompt(messages=messages, template="{{ .Prompt }}{{ .Response }}")
    prepare(model, structs.replace(request, prompt=prompt))
    whole = [text for text in model.tokenized if "4 4" in text]
    assert len(whole) <= most


@given(
    start=st.integers(0, 9), length=st.integers(0, 40), first=st.data(), guess=st.integers(-5, 60)
)
def test_the_first_that_passes_is_found(
    start: int, length: int, first: st.DataObject, guess: int
) -> None:
    numbers = range(start, start + length)
    wanted = first.draw(st.integers(numbers.start, numbers.stop))
    assert first_true(lambda number: number >= wanted, numbers, guess=guess) == wanted


@pytest.mark.parametrize(("guess", "most"), [(50, 2), (49, 2), (51, 4), (45, 6), (0, 14)])
def test_a_near_guess_needs_few_tests(guess: int, most: int) -> None:
    tests = itertools.count()
    first_true(lambda number: next(tests) >= 0 and number >= 50, range(100), guess=guess)
    assert next(tests) <= most


@pytest.mark.parametrize(("template", "is_jinja"), [(GO_TOOLS, False), (JINJA_TOOLS, True)])
@pytest.mark.parametrize("num_ctx", [90_000, 1_000])
def test_hundred_messages_take_little_time(template: str, num_ctx: int, *, is_jinja: bool) -> None:
    messages = (
        ChatMessage(role="system", content="be brief " * 20, is_models_own=True),
        *(say(("user", "assistant")[n % 2], "some more words " * 30) for n in range(99)),
    )
    prompt = ChatPrompt(messages=messages, template=template, is_jinja=is_jinja)
    request = structs.replace(asked("r1", num_ctx=num_ctx), prompt=prompt)
    model = WordModel()
    prepare(model, request)
    with takes_at_most(0.1):  # measured: 7 ms where all fits, 10 ms where not
        prepare(model, request)
