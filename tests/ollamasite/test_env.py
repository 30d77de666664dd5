"""Typed readers of the environment: good values, defaults, and sentences for bad ones."""

import math
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from ollamasite.durations import parse_duration_s
from ollamasite.env import Environment


def test_missing_value_is_its_default() -> None:
    env = Environment({})

    assert env.text("A", "x") == "x"
    assert env.integer("B", 7) == 7
    assert env.flag("C", default=True) is True
    assert env.seconds("D", 1.5) == 1.5


def test_blank_value_counts_as_missing() -> None:
    assert Environment({"PORT": "  "}).integer("PORT", 11434) == 11434


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("off", False)],
)
def test_flag_knows_the_usual_words(text: str, expected: bool) -> None:
    assert Environment({"F": text}).flag("F", default=not expected) is expected


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("300", 300), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("-1", math.inf)],
)
def test_duration_is_read_in_seconds(text: str, expected_s: float) -> None:
    assert parse_duration_s(text) == expected_s


@pytest.mark.parametrize("text", ["", "5 minutes", "m5", "5x", "-5", "1h 30m"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [("0", 0), ("1073741824", 1024**3), ("512MiB", 512 * 1024**2), ("1.5 GB", 1536 * 1024**2)],
)
def test_size_is_read_in_bytes(text: str, expected_bytes: int) -> None:
    assert Environment({"S": text}).size("S", None) == expected_bytes


def test_list_drops_empty_items() -> None:
    assert Environment({"L": "a, b,,c ,"}).names_list("L") == ["a", "b", "c"]


def test_path_is_absolute() -> None:
    assert Environment({"P": "data"}).path("P", Path("/x")) == Path.cwd() / "data"


def test_database_url_becomes_a_django_entry() -> None:
    url = "postgres://site:secret@db:5433/models"
    entry = Environment({"U": url}).database("U", "sqlite:////x")

    assert entry["ENGINE"] == "django.db.backends.postgresql"
    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == ("db", 5433, "models")


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (lambda env: env.integer("X", 1), "many"),
        (lambda env: env.integer("X", 1, minimum=1), "0"),
        (lambda env: env.flag("X", default=True), "maybe"),
        (lambda env: env.seconds("X", 1), "soon"),
        (lambda env: env.size("X", 1), "12 apples"),
    ],
)
def test_bad_value_is_named_with_what_to_do(reader: object, text: str) -> None:
    assert callable(reader)

    with pytest.raises(ImproperlyConfigured, match=f"X='{text}' cannot be used: set it to"):
        reader(Environment({"X": text}))


@pytest.mark.filterwarnings("ignore:Engine not recognized")
def test_text_that_is_no_database_url_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="set it to a database URL"):
        Environment({"U": "no url at all"}).database("U", "sqlite:////x")


def test_names_that_were_asked_for_are_known() -> None:
    env = Environment({})
    env.text("A")
    env.integer("B", 1)

    assert env.names == {"A", "B"}


@pytest.mark.parametrize("url", ["nope://u:secret@h/x", "mysql://u:secret@h/x", "u:secret"])
def test_database_that_is_not_supported_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        Environment({"DB": url}).database("DB", "sqlite:///x")
    assert "secret" not in str(refusal.value)
    assert "postgres://" in str(refusal.value)


def test_database_url_becomes_djangos_entry() -> None:
    entry = Environment({"DB": "postgres://u:p@h:5/n"}).database("DB", "sqlite:///x")
    assert (entry["ENGINE"], entry["NAME"], entry["HOST"]) == (
        "django.db.backends.postgresql",
        "n",
        "h",
    )


@pytest.mark.parametrize(("name", "value"), [("choice", "loud"), ("time_zone", "../etc")])
def test_value_that_is_none_of_the_choices_is_refused(name: str, value: str) -> None:
    environment = Environment({"X": value})
    with pytest.raises(ImproperlyConfigured, match="X="):
        if name == "choice":
            environment.choice("X", "INFO", ("INFO",))
        else:
            environment.time_zone("X", "UTC")


def test_origins_are_read_without_their_last_slash() -> None:
    env = Environment({"O": "https://Chat.example/, *, https://*.example:8443"})

    assert env.origins("O") == ["https://chat.example", "*", "https://*.example:8443"]


@pytest.mark.parametrize("text", ["chat.example", "https://*.*.example", "**"])
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^O: .* cannot be used: write"):
        Environment({"O": text}).origins("O")


def test_hosts_are_a_list() -> None:
    env = Environment({"H": "a.example, http://b.lan:8000,*, [::1]:80"})

    assert env.hosts("H") == ["a.example", "http://b.lan:8000", "*", "[::1]:80"]


@pytest.mark.parametrize("text", ["https://a.example/path", "*.a.example", "a:x", "a b", "ftp://a"])
def test_text_that_is_no_host_stops_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^H: .*cannot be used: write hosts such as"):
        Environment({"H": f"a.example,{text}"}).hosts("H")
