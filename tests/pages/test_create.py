"""The Modelfile editor, as the server writes it: what is wrong where, and what is made."""

import html
import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from models_app.models import Job, LanguageModel, User
from tests.conftest import MakeModel
from tests.pages.catalogue import add_model

GOOD = 'FROM base\nPARAMETER temperature 0.7\nSYSTEM """\nBe brief.\n"""\n'


@pytest.fixture
def base(make_model: MakeModel) -> str:
    """A model of the library."""
    return make_model("base:latest")


def token(client: Client) -> str:
    found = re.search(r'value="([^"]{64})"', client.get("/models/create").content.decode())
    assert found
    return found[1]


def post(client: Client, path: str = "/models/create", **fields: str) -> Any:
    return client.post(path, {"csrfmiddlewaretoken": token(client), **fields})


def words(answer: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def checked(client: Client, modelfile: str, **fields: str) -> str:
    return words(post(client, "/models/create/check", modelfile=modelfile, **fields))


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/models/create")["Location"] == "/signin?next=%2Fmodels%2Fcreate"


def test_model_is_made_and_its_job_is_shown(as_bob: Client, bob: User, base: str) -> None:
    answer = post(as_bob, name="brief", modelfile=GOOD.replace("\n", "\r\n"))

    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.job_id}"
    assert (job.kind, job.state) == ("create", "succeeded")
    made = LanguageModel.objects.get(name="brief")
    assert (made.namespace, made.owner) == ("bob", bob)
    told = words(as_bob.get(f"/jobs/{job.job_id}"))
    assert "writing manifest" in told
    assert "success" in told


def test_weights_are_quantized_where_asked(as_bob: Client, base: str, jobs_wait: None) -> None:
    post(as_bob, name="small", modelfile=GOOD, quantize="Q4_K_M")

    assert Job.objects.get().kind == "quantize"


def test_chosen_base_stands_in_for_a_missing_from(
    as_bob: Client, base: str, jobs_wait: None
) -> None:
    answer = post(as_bob, name="brief", modelfile="SYSTEM Be brief.", base=base)

    assert answer.status_code == 302
    assert '"base_name":"base:latest"' in Job.objects.get().arguments


def test_from_of_the_text_goes_before_the_chosen_base(
    as_bob: Client, base: str, make_model: MakeModel, jobs_wait: None
) -> None:
    make_model("other:latest")

    post(as_bob, name="brief", modelfile="FROM other", base=base)

    assert '"base_name":"other"' in Job.objects.get().arguments


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "", "modelfile": GOOD}, "Give the model a name."),
        ({"name": "no name!", "modelfile": GOOD}, "This is no name of a model"),
        ({"name": "library/x", "modelfile": GOOD}, "you may not write to the namespace 'library'"),
        ({"name": "x", "modelfile": ""}, "There is no FROM line"),
        ({"name": "x", "modelfile": "FROM base\nPARAMETER speed 9"}, "Unknown parameter 'speed'"),
        ({"name": "x", "modelfile": "FROM /etc/passwd"}, "names a file of the server"),
        ({"name": "x", "modelfile": f"FROM @sha256:{'0' * 64}"}, "not found"),
        (
            {"name": "x", "modelfile": "FROM base", "quantize": "Q9"},
            "Weights cannot be turned into that.",
        ),
    ],
)
def test_refusal_is_told_and_the_text_is_kept(
    as_bob: Client, base: str, fields: dict[str, str], told: str
) -> None:
    answer = post(as_bob, **fields)

    assert answer.status_code == 400
    assert told in words(answer)
    text = html.unescape(answer.content.decode())
    assert f">\n{fields['modelfile']}</textarea>" in text
    assert f'value="{fields["name"]}"' in text
    assert not Job.objects.exists()


def test_text_that_closes_the_field_stays_text(as_bob: Client, base: str) -> None:
    text = "FROM base\nSYSTEM </textarea><script>alert(1)</script>"

    answer = post(as_bob, name="!", modelfile=text)

    assert "<script>alert" not in answer.content.decode()
    assert html.escape(text) in answer.content.decode()


# ------------------------------------------------------------------ what is wrong where


def test_good_modelfile_has_nothing_wrong(as_bob: Client, base: str) -> None:
    assert checked(as_bob, GOOD) == "Nothing is wrong with it."


def test_every_line_that_is_wrong_is_told(as_bob: Client, base: str) -> None:
    text = "FROM base\r\nSPEED 9\r\nPARAMETER temperature hot\r\nMESSAGE robot hi\r\nSYSTEM x"

    told = checked(as_bob, text)

    assert "Line 2 Command must be one of" in told
    assert "Line 3 Invalid float value [hot]" in told
    assert "Line 4 Message role must be one of" in told
    assert "Line 1" not in told
    assert "Line 5" not in told


def test_open_quotes_are_told_where_they_begin(as_bob: Client, base: str) -> None:
    told = checked(as_bob, 'FROM base\nSYSTEM """\nfor ever\nand ever\n')

    assert told == "Line 2 Something is missing here: a value, or the quotes that close it"


@pytest.mark.parametrize("text", ["", "\n\n# only words", "SYSTEM hello"])
def test_missing_from_is_told(as_bob: Client, base: str, text: str) -> None:
    assert "There is no FROM line" in checked(as_bob, text)


def test_chosen_base_is_looked_at(as_bob: Client, base: str) -> None:
    assert checked(as_bob, "SYSTEM hello", base=base) == "Nothing is wrong with it."
    assert "Line 2 The registry" in checked(as_bob, "SYSTEM hello", base="evil.example/a/b")


def test_base_that_is_elsewhere_is_said_to_be_pulled(
    as_bob: Client, base: str, settings: Settings
) -> None:
    settings.ALLOWED_REGISTRIES = ["registry.example"]

    told = checked(as_bob, "FROM registry.example/lab/tiny")

    assert told == (
        "Line 1 registry.example/lab/tiny is not here: it is pulled from registry.example first."
    )


def test_others_private_base_is_as_one_that_is_not_there(
    as_bob: Client, alice: User, base: str
) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)

    there = checked(as_bob, "FROM alice/private")
    missing = checked(as_bob, "FROM alice/missing")

    assert there.replace("private", "missing") == missing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FROM base\nTEMPLATE {{ if }}", "Line 2 Template error"),
        ("FROM base\nREQUIRES soon", "Line 2 Requires must be a version"),
        ("FROM base\nADAPTER ./lora.gguf", "Line 2 ADAPTER names a file of the server"),
        ("FROM base\nDRAFT base", "Line 2 Draft models are not supported"),
        ("FROM !!", "Line 1 Invalid model name"),
    ],
)
def test_what_a_command_says_is_looked_at(as_bob: Client, base: str, text: str, told: str) -> None:
    assert told in checked(as_bob, text)


def test_remarks_are_bounded(as_bob: Client, base: str) -> None:
    answer = post(as_bob, "/models/create/check", modelfile="NONSENSE\n" * 5000)

    assert answer.content.decode().count("<li") == 50


def test_bases_that_are_looked_up_are_bounded(
    as_bob: Client, base: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(300):
        checked(as_bob, "FROM base:latest\n" * 2000)


def test_looking_makes_nothing(as_bob: Client, base: str) -> None:
    checked(as_bob, GOOD, name="brief", quantize="Q4_K_M")

    assert not Job.objects.exists()


# ------------------------------------------------------------------ the page


def test_page_begins_with_a_model_of_ones_own_view(as_bob: Client, base: str, alice: User) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)

    text = as_bob.get("/models/create").content.decode()

    assert "FROM base:latest\n" in text
    assert "alice/private" not in text
    assert '<option value="Q4_K_M"' in text


def test_base_of_a_link_is_written(as_bob: Client, base: str) -> None:
    assert "FROM bob/mine:q4\n" in as_bob.get("/models/create?from=bob/mine:q4").content.decode()


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow_with_the_models(
    as_bob: Client, count: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        add_model(f"model-{number}:latest")
    as_bob.get("/models/create")
    with django_assert_max_num_queries(5):  # session, user, teams, models, aliases
        as_bob.get("/models/create")
