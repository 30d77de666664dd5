"""The pages of usage, as the server writes them."""

import csv
import html
import io
import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from models_app import ledger, limits, own_data
from models_app.accounts import create_user
from models_app.errors import LimitsUnavailable
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.ledger_journal import Figures
from models_app.limit_kinds import Limit, Period, Unit
from models_app.limits import LimitState
from models_app.models import LedgerEntry, Membership, Outcome, Team, User
from models_app.permissions import Scope, TeamRole
from tests.models_app.test_ledger import begin, end
from tests.pages.catalogue import PASSWORD

NOW = datetime(2026, 3, 18, 15, 20, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>" + "\N{ARABIC LETTER ALEF}" * 20 + "x" * 600


@pytest.fixture(autouse=True)
def travel(db: None) -> Any:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def lab(db: None) -> Team:
    return Team.objects.create(name="lab")


def use(
    request_id: str,
    user: User,
    *,
    ago: timedelta = timedelta(hours=1),
    outcome: Outcome = Outcome.DONE,
    figures: Figures | None = None,
    **fields: Any,
) -> None:
    at_us = int((NOW - ago).timestamp()) * 1_000_000
    told = end(request_id, outcome, figures or Figures(tokens_in=100, tokens_out=20))
    named = {"user_id": user.pk, "user_name": user.username, "at_us": at_us} | fields
    ledger.write([(begin(request_id, **named), told)])


def words(page: Any) -> str:
    """Return the words of a page, single-spaced and without markup."""
    text = re.sub(r"<title>.*?</title>|<[^>]+>", " ", page.content.decode(), flags=re.S)
    return " ".join(html.unescape(text).split())


def listed(page: Any) -> list[str]:
    """Return the ids of the requests that a page shows, in its order."""
    found = re.findall(r'href="/usage/requests/(\w+)"', page.content.decode())
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------ sums


def test_totals_are_ones_own_and_tell_the_change(as_bob: Client, bob: User, alice: User) -> None:
    use("a", bob)
    use("b", bob)
    use("c", bob, ago=timedelta(days=35))
    use("d", alice)
    text = words(as_bob.get("/usage"))

    assert "Requests 2 +100 %, before 1" in text
    assert "Tokens in 200 +100 %, before 100" in text
    assert "Failed 0 none before either" in text


def test_models_and_keys_are_told_apart(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    use("a", bob, key_id=key.pk, key_name=key.name, model_name="tiny:latest")
    use("b", bob, model_name="big:latest")
    page = as_bob.get("/usage")
    text = words(page)

    assert "By model" in text
    assert "By key" in text
    assert "laptop 1 100 20" in text
    assert "without a key: pages and signatures 1 100 20" in text
    assert f'href="?key={key.prefix}"' in page.content.decode()


def test_filters_suggest_what_was_used(as_bob: Client, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    use("a", bob, key_id=key.pk, key_name=key.name, model_name="tiny:latest")
    page = as_bob.get("/usage").content.decode()

    assert 'list="used-model"' in page
    suggested = re.findall(r'<datalist id="used-(\w+)">(.*?)</datalist>', page, re.DOTALL)
    values = {name: re.findall(r'<option value="([^"]*)"', lines) for name, lines in suggested}
    assert values == {"model": ["tiny:latest"], "key": [key.prefix]}


def test_revoked_and_deleted_things_are_shown_with_a_flag(
    as_alice: Client, alice: User, bob: User
) -> None:
    key, _ = create_key(alice, "laptop")
    use("a", alice, key_id=key.pk, key_name=key.name)
    use("b", alice, key_id=987, key_name="gone")
    use("c", bob)
    revoke_key(key)
    own_data.forget("bob", by=None)

    text = words(as_alice.get("/usage?all=1&group_by=key"))
    assert "laptop revoked 1" in text
    assert "gone deleted 1" in text
    page = as_alice.get("/usage?all=1&group_by=user")
    assert f"deleted-{bob.pk} deleted 1" in words(page)
    assert f"user=deleted-{bob.pk}" in page.content.decode()
    theirs = words(as_alice.get(f"/usage?all=1&user=deleted-{bob.pk}"))
    assert "Requests 1 none in the time before" in theirs


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("period=today", 1),
        ("period=7d", 2),
        ("period=month", 3),
        ("period=last-month", 1),
        ("period=year", 4),
        ("period=own&since=2026-03-02&until=2026-03-02", 1),
        ("since=2026-03-02&until=2026-03-02", 1),
        ("model=big:latest", 1),
        ("model=nothing", 0),
        ("period=year&granularity=month", 4),
        ("period=7d&granularity=hour", 2),
        ("period=year&granularity=hour", 4),  # too many bars: fewer are drawn, none is left out
    ],
)
def test_filters_narrow(as_bob: Client, bob: User, query: str, requests: int) -> None:
    use("a", bob)
    use("b", bob, ago=timedelta(days=3), model_name="big:latest")
    use("c", bob, ago=NOW - datetime(2026, 3, 2, 23, 59, tzinfo=UTC))
    use("d", bob, ago=NOW - datetime(2026, 2, 3, tzinfo=UTC))

    text = words(as_bob.get(f"/usage?{query}"))
    assert re.search(rf"Requests {requests} ", text), text[:600]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("period=own", "Choose a day."),
        ("period=own&since=2026-03-02&until=2026-03-01", "This day is before the first."),
        ("period=own&since=x&until=2026-03-01", "Write a day such as 2026-01-31."),
        ("period=own&since=0001-01-01&until=9999-12-31", "Choose a day from 2000 to 2100."),
        ("period=sometime", "Choose one of the list."),
    ],
)
@pytest.mark.parametrize("path", ["/usage", "/usage/requests"])
def test_what_is_wrong_is_said_beside_its_field(
    as_bob: Client, path: str, query: str, sentence: str
) -> None:
    page = as_bob.get(f"{path}?{query}&model=kept")
    text = page.content.decode()

    assert page.status_code == 400
    assert sentence in text
    assert 'value="kept"' in text
    assert text.count("autofocus") == 1


def test_nobody_without_use_is_left_without_a_next_step(as_bob: Client) -> None:
    text = words(as_bob.get("/usage"))

    assert "Nothing yet" in text
    assert "home page has code to copy" in text
    assert "No limit is set for you" in text
    assert "No request in this time." in words(as_bob.get("/usage/requests"))
    assert "No request fits." in words(as_bob.get("/usage/requests?model=x"))


def test_chart_and_year_tell_what_they_show(as_bob: Client, bob: User) -> None:
    use("a", bob)
    page = as_bob.get("/usage")
    text = page.content.decode()

    assert "<title>Mar 18: 100 tokens in, 20 out, 1 request</title>" in text
    assert "<title>2026-03-18: 120 tokens, 1 request</title>" in text
    assert "2026-03-18 1 0 100 20" in words(page)  # the table
    assert "Used on 1 day; most on 2026-03-18 , with 120 tokens." in words(page)
    assert not re.search(r"\sstyle=|<style", text)


def test_day_is_utc_whatever_the_sites_zone(as_bob: Client, bob: User, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    use("a", bob)

    assert "Mar 18: 100" in as_bob.get("/usage").content.decode()
    assert "2026-03-18 14:20:00" in as_bob.get("/usage/requests").content.decode()


def test_what_is_left_is_told(as_bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit("user:1", Unit.TOKENS, Period.DAY, 2000)
    now_ms = int(NOW.timestamp()) * 1000

    async def look(*_: Any) -> list[LimitState]:
        return [LimitState(limit, 150, 3 * 3_600_000, now_ms)]

    monkeypatch.setattr(limits, "look", look)
    text = words(as_bob.get("/usage"))
    assert "150 of 2K tokens per day, for you nearly used up" in text
    assert "there again in 3 h 0 min, at 2026-03-18 18:20 ." in text


def test_page_is_there_when_limits_cannot_be_told(
    as_bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(*_: Any) -> list[LimitState]:
        raise LimitsUnavailable

    monkeypatch.setattr(limits, "look", look)
    page = as_bob.get("/usage")
    assert (page.status_code, "cannot be told right now" in words(page)) == (200, True)


# ------------------------------------------------------------------ who sees what


PATHS = ("/usage", "/usage/requests", "/usage/export.csv")


@pytest.mark.parametrize("path", PATHS)
def test_strangers_are_sent_to_the_sign_in_page(browser: Client, path: str) -> None:
    assert browser.get(path)["Location"].startswith("/signin?next=")


@pytest.mark.parametrize("path", PATHS)
def test_everybodys_is_for_auditors_and_administrators(as_bob: Client, path: str) -> None:
    assert as_bob.get(f"{path}?all=1").status_code == 403
    User.objects.filter(username="bob").update(site_role="auditor")
    assert as_bob.get(f"{path}?all=1").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_team_is_for_those_who_look_after_it(
    as_bob: Client, bob: User, lab: Team, path: str
) -> None:
    assert as_bob.get(f"{path}?team=lab").status_code == 404
    place = Membership.objects.create(team=lab, user=bob, role=TeamRole.MEMBER)
    assert as_bob.get(f"{path}?team=lab").status_code == 403
    place.role = TeamRole.MAINTAINER
    place.save()
    assert as_bob.get(f"{path}?team=lab").status_code == 200
    assert as_bob.get(f"{path}?team=nothing").status_code == 404


def test_ways_to_others_use_are_shown_to_those_who_may(
    as_bob: Client, as_alice: Client, bob: User, lab: Team
) -> None:
    Membership.objects.create(team=lab, user=bob, role=TeamRole.OWNER)
    as_alice.get("/usage")
    browser = Client(headers={"accept": "text/html"})
    browser.force_login(bob)
    bobs = browser.get("/usage").content.decode()
    alices = as_alice.get("/usage").content.decode()

    assert ("team=lab" in bobs, "all=1" in bobs) == (True, False)
    assert ("team=lab" in alices, "all=1" in alices) == (False, True)


def test_team_sees_no_names_of_peoples_models_and_no_addresses(
    as_bob: Client, bob: User, alice: User, lab: Team
) -> None:
    Membership.objects.create(team=lab, user=bob, role=TeamRole.OWNER)
    common: dict[str, Any] = {"team_id": lab.pk, "team_name": "lab", "address": "192.0.2.7"}
    use("a", alice, model_name="alice/secret:latest", **common)
    pages = [
        as_bob.get(path)
        for path in ("/usage?team=lab", "/usage/requests?team=lab", "/usage/requests/a")
    ]

    assert [page.status_code for page in pages] == [200] * 3
    for page in pages:
        text = page.content.decode()
        assert "secret" not in text
        assert "192.0.2.7" not in text
        assert "other" in text
    assert "Repeat this request" not in pages[2].content.decode()


def test_request_of_others_is_like_none(as_bob: Client, alice: User, bob: User) -> None:
    use("a", alice)
    use("b", bob)
    theirs, nothing = as_bob.get("/usage/requests/a"), as_bob.get("/usage/requests/nothing")

    assert (theirs.status_code, nothing.status_code) == (404, 404)
    assert words(theirs) == words(nothing)
    assert as_bob.get("/usage/requests/%00").status_code == 404
    assert as_bob.get("/usage/requests/b").status_code == 200


def test_administrators_see_everybodys_requests_with_their_user(
    as_alice: Client, bob: User
) -> None:
    use("b", bob, address="192.0.2.7")

    assert listed(as_alice.get("/usage/requests")) == []
    page = as_alice.get("/usage/requests?all=1")
    assert listed(page) == ["b"]
    assert "bob" in words(page)
    assert "192.0.2.7" in words(as_alice.get("/usage/requests/b"))


def test_key_that_is_for_models_alone_does_not_reach_these_pages(bob: User) -> None:
    _, secret = create_key(bob, "narrow", KeyRules(scopes=(Scope.USE,)))
    for path in (*PATHS, "/usage/requests/a"):
        answer = Client().get(path, headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 403


@pytest.mark.parametrize("path", [*PATHS, "/usage/requests/a"])
def test_nothing_is_posted_to(as_bob: Client, path: str) -> None:
    as_bob.handler.enforce_csrf_checks = False
    assert as_bob.post(path).status_code == 405


# ------------------------------------------------------------------ requests


def test_requests_come_the_newest_first_and_older_ones_on_demand(as_bob: Client, bob: User) -> None:
    for number in range(60):
        use(f"r{number}", bob, ago=timedelta(minutes=number + 1))
    first = as_bob.get("/usage/requests")
    more = re.search(r'id="more".*?href="([^"]+)"', first.content.decode(), re.S)
    assert more
    path = html.unescape(more[1])
    second, part = as_bob.get(path), as_bob.get(path, headers={"hx-request": "true"})

    assert listed(first) == [f"r{number}" for number in range(50)]
    assert listed(second) == listed(part) == [f"r{number}" for number in range(50, 60)]
    assert "<html" not in part.content.decode()
    assert "Show older requests" not in part.content.decode()
    assert "Back to the newest" in words(second)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("model=big:latest", ["b"]),
        ("outcome=failed", ["c"]),
        ("dialect=openai", ["d"]),
        ("period=today", ["a", "c", "d"]),
        ("outcome=failed&dialect=openai", []),
        ("period=own&since=2026-03-15&until=2026-03-15", ["b"]),
    ],
)
def test_requests_are_filtered(as_bob: Client, bob: User, query: str, ids: list[str]) -> None:
    use("a", bob)
    use("b", bob, ago=timedelta(days=3), model_name="big:latest")
    use("c", bob, ago=timedelta(hours=2), outcome=Outcome.FAILED)
    use("d", bob, ago=timedelta(hours=3), dialect="openai")

    assert listed(as_bob.get(f"/usage/requests?{query}")) == ids


def test_requests_are_filtered_by_key_and_by_user(as_alice: Client, alice: User, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    use("a", alice)
    use("b", bob, key_id=key.pk)
    use("c", bob)

    assert listed(as_alice.get(f"/usage/requests?all=1&key={key.prefix}")) == ["b"]
    assert listed(as_alice.get("/usage/requests?all=1&user=bob")) == ["c", "b"]


@pytest.mark.parametrize("after", ["x", "1", "1-x", "9" * 30 + "-1", "-", "1-2-3", "²-1"])
def test_place_that_makes_no_sense_is_refused(as_bob: Client, after: str) -> None:
    assert as_bob.get("/usage/requests", {"after": after}).status_code == 400


def test_request_tells_where_its_time_went(as_bob: Client, bob: User) -> None:
    figures = Figures(
        tokens_in=1200,
        tokens_out=80,
        tokens_cached=1000,
        queue_us=250_000,
        load_us=0,
        prefill_us=500_000,
        decode_us=1_000_000,
        compute_us=1_400_000,
    )
    use("a", bob, figures=figures)
    # Two seconds after it began: as tests.models_app.test_ledger has it, of another moment.
    LedgerEntry.objects.update(ended_at=NOW - timedelta(hours=1) + timedelta(seconds=2))
    text = words(as_bob.get("/usage/requests/a"))

    assert "2.0 s from beginning to end" in text
    assert "Waiting in the queue 250 ms Loading the model 0 ms Reading the prompt 500 ms" in text
    assert "Writing the answer 1.0 s All else 250 ms" in text
    assert "In 1,200 From the cache 1,000 Out 80 Speed 80.0 tokens/s" in text
    assert "Seed 7" in text
    assert "temperature 0.5" in text


def test_drawer_gets_the_same_without_the_page(as_bob: Client, bob: User) -> None:
    use("a", bob)
    part = as_bob.get("/usage/requests/a", headers={"hx-request": "true"}).content.decode()

    assert "<html" not in part
    assert "Repeat this request" in part


def test_failed_request_tells_its_error_and_its_id(as_bob: Client, bob: User) -> None:
    use("abc", bob, outcome=Outcome.FAILED)
    LedgerEntry.objects.update(error_code="out_of_memory")

    text = words(as_bob.get("/usage/requests/abc"))
    assert "It failed: out_of_memory . When you report it, name the request: abc ." in text


def snippet(page: Any, name: str) -> str:
    found = re.search(rf'<code id="{name}">(.*?)</code>', page.content.decode(), re.DOTALL)
    assert found
    return html.unescape(found[1]).strip()


@pytest.mark.parametrize(
    ("kind", "field"), [("chat", "messages"), ("generate", "prompt"), ("embed", "input")]
)
def test_request_can_be_asked_again(as_bob: Client, bob: User, kind: str, field: str) -> None:
    use("a", bob, kind=kind)
    page = as_bob.get("/usage/requests/a")
    command = shlex.split(snippet(page, "repeat-curl").replace("\\\n", " "))
    body = json.loads(command[-1])

    assert command[1] == f"http://testserver/api/{kind}"
    assert body["model"] == "tiny:latest"
    assert body["options"] == {"num_ctx": 512, "temperature": 0.5, "seed": 7}
    assert "YOUR PROMPT" in json.dumps(body[field])
    compile(snippet(page, "repeat-python"), "repeat", "exec")


@pytest.mark.parametrize("name", [HOSTILE[:700], "'; rm -rf ~ #", "a\\'b\"c$(id)`id`"])
def test_hostile_names_stay_text(as_bob: Client, bob: User, name: str) -> None:
    texts: dict[str, Any] = {"model_name": name, "key_name": name[:120], "team_name": name[:80]}
    use("a", bob, key_id=5, team_id=5, **texts)
    for path in ("/usage", "/usage/requests", "/usage/requests/a", "/usage?group_by=team"):
        assert "<script>alert" not in as_bob.get(path).content.decode()
    page = as_bob.get("/usage/requests/a")
    command = shlex.split(snippet(page, "repeat-curl").replace(" \\\n", " "))
    assert json.loads(command[-1])["model"] == name
    compile(snippet(page, "repeat-python"), "repeat", "exec")
    filtered = as_bob.get("/usage", {"model": name, "key": name, "group_by": "model"})
    assert "<script>alert" not in filtered.content.decode()


# ------------------------------------------------------------------ files


def rows_of(answer: Any) -> list[dict[str, str]]:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return list(csv.DictReader(io.StringIO(async_to_sync(read)().decode())))


def test_file_has_the_rows_that_the_page_has(as_bob: Client, bob: User, alice: User) -> None:
    use("a", bob)
    use("b", bob, outcome=Outcome.FAILED)
    use("c", alice)
    answer = as_bob.get("/usage/export.csv?outcome=failed")

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="usage.csv"'
    assert [row["request_id"] for row in rows_of(answer)] == ["b"]
    sums = rows_of(as_bob.get("/usage/export.csv?of=sums&group_by=model"))
    assert [(row["group"], row["requests"]) for row in sums] == [("tiny:latest", "2")]


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_cells_are_never_formulas(as_bob: Client, bob: User, start: str) -> None:
    use("a", bob, key_name=f"{start}cmd|' /C calc'!A0", model_name=f"{start}1+1")
    [row] = rows_of(as_bob.get("/usage/export.csv"))
    [line] = rows_of(as_bob.get("/usage/export.csv?of=sums&group_by=model"))

    assert row["key"].startswith(f"'{start}")
    assert row["model"].startswith(f"'{start}")
    assert line["group"].startswith(f"'{start}")


def test_file_says_what_is_wrong_with_its_question(as_bob: Client) -> None:
    answer = as_bob.get("/usage/export.csv?period=own")
    assert (answer.status_code, "Choose a day." in answer.content.decode()) == (400, True)


# ------------------------------------------------------------------ queries


@pytest.mark.parametrize("at", [(0, 1), (0, 60), (15, 60)])
@pytest.mark.parametrize(
    "asked",
    [
        ("/usage", 9),
        ("/usage?all=1", 9),
        ("/usage?all=1&group_by=key", 8),
        ("/usage/requests?all=1", 4),
        ("/usage/requests/r0", 4),
    ],
)
def test_number_of_queries_is_the_same_at_any_time_and_size(
    as_alice: Client,
    alice: User,
    asked: tuple[str, int],
    at: tuple[int, int],
    travel: Any,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    (path, queries), (hour, count) = asked, at
    for number in range(count):
        user = create_user(f"user{number}", PASSWORD) if number and number % 20 == 0 else alice
        use(
            f"r{number}",
            user,
            ago=timedelta(days=number % 40),
            model_name=f"m{number}:latest",
            key_id=number + 1,
        )
    as_alice.get(path)  # the session's first page writes when it was last used
    travel.move_to(NOW.replace(hour=hour))  # how a time is cut into days changes nothing
    with django_assert_num_queries(queries):
        as_alice.get(path)
