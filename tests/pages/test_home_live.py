"""What of the home page changes: attention, memory, requests, limits."""

import html
import re
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import AsyncClient
from django.utils import timezone
from pytest_django import Settings

from inference import roster
from inference.fleet import engine_fleet
from inference.messages import LoadedModel, LoadFailure, Priority, QueueState, RunningEntry
from models_app.accounts import create_user
from models_app.keys import KeyRules, create_key, rotate_key
from models_app.limits import reserve
from models_app.models import Job, User
from models_app.permissions import CredentialKind, Principal, SiteRole
from models_app.principals import principal_of_user
from registry import disk_space
from tests.fakes.engine import FakeNode, running_node
from tests.inference.engine.far_node import House
from tests.limited import SetLimits, redis_socket, redis_url, set_limits
from tests.pages.catalogue import PASSWORD, STARTER, add_model

__all__ = ["redis_socket", "redis_url", "set_limits"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[FakeNode]:
    async with running_node() as fake:
        settings.ENGINE_SOCKET = fake.socket_path
        yield fake
        engine_fleet(django_settings.ENGINE_SOCKET).close()


@pytest.fixture
async def starter(transactional_db: None) -> str:
    return await sync_to_async(add_model)(STARTER)


@pytest.fixture
async def bob(transactional_db: None) -> User:
    return await sync_to_async(create_user)("bob", PASSWORD)


async def home_of(user: User, **headers: str) -> str:
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    answer = await client.get("/home", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def words_of(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def part(page: str, start: str, end: str) -> str:
    """Return the words of what stands between two marks."""
    assert start in page
    return words_of(page.partition(start)[2].partition(end)[0])


def attention(page: str) -> str:
    return (
        part(page, 'id="home-attention"', "</div>")
        .removeprefix(">")
        .strip()
        .removeprefix("Needs attention ")
    )


def section(page: str, name: str) -> str:
    return part(page, f'aria-labelledby="{name}-title"', "</section>").removeprefix(">").strip()


async def principal(user: User) -> Principal:
    return await sync_to_async(principal_of_user)(user, CredentialKind.SESSION)


def loaded(name: str, digest: str, size_bytes: int, **changes: Any) -> LoadedModel:
    fields: dict[str, Any] = {"size_vram_bytes": 0, "context_length": 4096, "expires_in_s": 272.0}
    return LoadedModel(name=name, digest=digest, size_bytes=size_bytes, **(fields | changes))


def running(user: str, digest: str, **changes: Any) -> RunningEntry:
    fields: dict[str, Any] = {
        "request_id": f"run{user}",
        "model": STARTER,
        "digest": digest,
        "user": user,
        "priority": Priority.API,
        "age_s": 12.0,
        "completion_tokens": 84,
        "tokens_per_s": 21.5,
    }
    return RunningEntry(**(fields | changes))


# ------------------------------------------------------------------ attention


async def test_quiet_site_has_one_calm_line(node: FakeNode, starter: str, bob: User) -> None:
    page = await home_of(bob)

    assert attention(page) == "All is well: 1 model for you, 0 in memory, nothing waits."


async def add_job(owner: User, state: str, *, hours_ago: float = 1.0, **changes: Any) -> None:
    ended_at = timezone.now() - timedelta(hours=hours_ago)
    number = await Job.objects.acount()
    fields = {"kind": "pull", "model_name": "llama3", "arguments": "{}", "ended_at": ended_at}
    job_id = f"{number:032d}"
    job = await Job.objects.acreate(
        job_id=job_id, state=state, owner=owner, share_key=job_id, **(fields | changes)
    )
    await Job.objects.filter(pk=job.pk).aupdate(created_at=ended_at)


async def test_failed_job_needs_attention(node: FakeNode, bob: User) -> None:
    await add_job(bob, "failed", error={"message": "no such model."})

    assert attention(await home_of(bob)).startswith("Pulling llama3 has failed: no such model.")


@pytest.mark.parametrize(
    ("state", "hours_ago"), [("succeeded", 0.5), ("cancelled", 0.5), ("failed", 25)]
)
async def test_failed_job_is_forgotten_when_it_was_done_again_or_is_old(
    node: FakeNode, starter: str, bob: User, state: str, hours_ago: float
) -> None:
    await add_job(bob, "failed", hours_ago=max(1.0, hours_ago))
    await add_job(bob, state, hours_ago=hours_ago)

    assert "All is well" in attention(await home_of(bob))


async def test_somebody_elses_failed_job_is_theirs(node: FakeNode, starter: str, bob: User) -> None:
    other = await sync_to_async(create_user)("mallory", PASSWORD)
    await add_job(other, "failed")

    assert "All is well" in attention(await home_of(bob))


async def test_key_that_expires_within_a_week_needs_attention(node: FakeNode, bob: User) -> None:
    soon = KeyRules(expires_at=timezone.now() + timedelta(days=3, hours=1))
    later = KeyRules(expires_at=timezone.now() + timedelta(days=8))
    key, _ = await sync_to_async(create_key)(bob, "nightly", soon)
    await sync_to_async(create_key)(bob, "yearly", later)
    told = attention(await home_of(bob))

    assert told == f"The key nightly ({key.prefix}) expires in 3 days. Renew it"


async def test_key_that_was_renewed_needs_none(node: FakeNode, starter: str, bob: User) -> None:
    soon = KeyRules(expires_at=timezone.now() + timedelta(days=3))
    key, _ = await sync_to_async(create_key)(bob, "nightly", soon)
    new = await sync_to_async(rotate_key)(await principal(bob), key.prefix)

    told = attention(await home_of(bob))
    assert key.prefix not in told
    assert new.record.prefix in told  # it has the old one's end


async def test_model_that_could_not_be_loaded_needs_attention(
    node: FakeNode, starter: str, bob: User
) -> None:
    node.failures = (
        LoadFailure(name="alice/copy", digest=starter, message="no memory", ago_s=61.0),
        LoadFailure(name="alice/secret", digest="e" * 64, message="secret", ago_s=61.0),
    )
    told = attention(await home_of(bob))

    assert told.startswith(f"{STARTER} could not be loaded 1 min 1 s ago: no memory")
    assert "alice" not in told
    assert "secret" not in told


async def test_engine_that_is_away_is_told_and_the_rest_is_there(
    starter: str, bob: User, settings: Settings
) -> None:
    settings.ENGINE_SOCKET = settings.RUN_DIR / "nobody.sock"
    page = await home_of(bob)

    assert "is not answering right now" in attention(page)
    assert "Not known while" in section(page, "now")
    assert STARTER in section(page, "models")


async def test_full_disk_is_told_to_those_who_look_after_it(
    node: FakeNode, starter: str, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "scarce_bytes", lambda _: 3_200_000_000)
    assert "disk" not in attention(await home_of(bob))
    await User.objects.filter(pk=bob.pk).aupdate(site_role=SiteRole.OPERATOR)
    told = attention(await home_of(await User.objects.aget(pk=bob.pk)))

    assert told.startswith("The disk with the models is nearly full: 3.2 GB are free.")


def test_disk_is_nearly_full_by_what_is_free_and_by_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has(free: int, total: int) -> int | None:
        usage = type("Usage", (), {"free": free, "total": total})
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        return disk_space.scarce_bytes(tmp_path)

    assert has(5 * 10**9, 100 * 10**9) == 5 * 10**9
    assert has(11 * 10**9, 100 * 10**9) is None
    assert has(30 * 10**9, 4000 * 10**9) is None
    assert has(19 * 10**9, 4000 * 10**9) == 19 * 10**9


async def test_texts_of_others_are_escaped(node: FakeNode, bob: User) -> None:
    evil = "<script>alert(1)</script>"
    await add_job(bob, "failed", model_name=evil, error={"message": evil})
    page = await home_of(bob)

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


# ------------------------------------------------------------------ memory


async def test_memory_is_a_bar_with_a_part_for_each_model(
    node: FakeNode, starter: str, bob: User
) -> None:
    node.memory_bytes = 6_000_000_000
    node.loaded["a"] = loaded(STARTER, starter, 1_500_000_000)
    node.loaded["b"] = loaded("alice/secret", "e" * 64, 1_500_000_000, expires_in_s=60.0)
    page = await home_of(bob)
    bar = page.partition('class="memory-bar"')[2].partition("</svg>")[0]

    assert "Memory for models on fake: 3.0 GB of 6.0 GB, 50 per cent" in bar
    assert [words_of(title) for title in re.findall(r"<title>(.*?)</title>", bar, re.S)] == [
        f"{STARTER}: 1.5 GB",
        "Models that you cannot see: 1.5 GB",
    ]
    assert re.findall(r'\bx="([^"]*)"', bar) == ["0.00", "25.00"]
    assert set(re.findall(r'width="([^"]*)"', bar)) == {"24.75"}
    assert "3.0 GB of 6.0 GB on fake" in section(page, "loaded")
    assert "alice/secret" not in page


async def test_memory_without_a_known_total_is_told_alone(
    node: FakeNode, starter: str, bob: User
) -> None:
    node.memory_bytes = None
    node.loaded["a"] = loaded(STARTER, starter, 1_500_000_000)

    assert "In memory now 1.5 GB on fake" in section(await home_of(bob), "loaded")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"is_busy": True}, f"{STARTER} in use Memory"),
        ({"is_busy": True}, "Stays after use 4 min 32 s"),
        ({"is_loading": True}, f"{STARTER} being loaded Memory"),
        ({"is_loading": True}, "Leaves not yet"),
        ({"is_busy": True, "expires_in_s": None}, "Leaves never"),
    ],
)
async def test_state_of_a_model_in_memory_is_told(
    node: FakeNode, starter: str, bob: User, changes: dict[str, Any], told: str
) -> None:
    node.loaded["a"] = loaded(STARTER, starter, 1, **changes)

    assert told in section(await home_of(bob), "loaded")


# ------------------------------------------------------------------ requests


async def test_requests_are_told_with_their_age_and_others_without_a_name(
    node: FakeNode, starter: str, bob: User
) -> None:
    slots = (running("mallory", starter, age_s=60), running("bob", starter, key_name="n (abc)"))
    node.queue = QueueState(request_id="", entries=(), running=2, slots=4, on_slots=slots)
    page = await home_of(bob)
    words = section(page, "now")

    assert "2 running, 0 waiting" in words
    assert f"Running You with n (abc) · {STARTER} 84 tokens, 22/s 12 s" in words
    assert f"Running Somebody else · {STARTER} 1 min" in words
    assert words.index("You") < words.index("Somebody else")
    assert "mallory" not in page


async def test_operator_is_told_who_asks(node: FakeNode, starter: str, bob: User) -> None:
    await User.objects.filter(pk=bob.pk).aupdate(site_role=SiteRole.OPERATOR)
    slots = (running("mallory", starter),)
    node.queue = QueueState(request_id="", entries=(), running=1, slots=4, on_slots=slots)

    words = section(await home_of(await User.objects.aget(pk=bob.pk)), "now")
    assert f"Running mallory · {STARTER} 84 tokens" in words


async def test_part_that_changes_is_answered_alone(node: FakeNode, starter: str, bob: User) -> None:
    page = await home_of(bob, **{"hx-request": "true"})

    assert "<html" not in page
    assert "Call it from your code" not in page
    assert page.count('hx-swap-oob="true"') == 2
    assert 'hx-swap-oob="true"' not in await home_of(bob)


# ------------------------------------------------------------------ limits


async def test_without_limits_that_is_said(node: FakeNode, bob: User) -> None:
    assert "No limit is set for you" in section(await home_of(bob), "left")


async def test_limits_are_told_with_what_is_left_and_when_they_reset(
    node: FakeNode, bob: User, set_limits: SetLimits
) -> None:
    set_limits(requests=10, tokens_a_day=50_000, parallel=4)
    charge = await reserve(await principal(bob), tokens=1000)
    page = await home_of(bob)
    words = section(page, "left")

    assert "Requests per minute 9 of 10 left" in words
    assert "all of it again in" in words
    assert "Tokens today 49,000 of 50,000 left" in words
    assert re.search(r"anew in (\d+ h|\d+ min)", words)
    assert "Requests at the same time 3 of 4 left" in words
    assert re.search(r'<progress max="50000"\s+value="1000"', page)
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT00:00:00\+00:00"', page)
    charge.give_back()


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (45_500, "Only 4,500 of the 50,000 tokens for today are left; anew in"),
        (50_000, "None of the 50,000 tokens for today are left; anew in"),
    ],
)
async def test_limit_that_is_nearly_used_up_needs_attention(
    node: FakeNode, bob: User, set_limits: SetLimits, tokens: int, told: str
) -> None:
    set_limits(requests=1, tokens_a_day=50_000)
    charge = await reserve(await principal(bob), tokens=tokens)
    page = await home_of(bob)

    assert attention(page).startswith(told)
    assert "per minute" not in attention(page)
    assert page.count('class="is-low"') == 1
    charge.give_back()


async def test_limits_that_cannot_be_counted_are_said_not_to_be_known(
    node: FakeNode, bob: User, set_limits: SetLimits, settings: Settings
) -> None:
    set_limits(requests=10)
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert "Not known right now" in section(await home_of(bob), "left")


@pytest.mark.parametrize("ago", [{}, {"days": 3}], ids=str)
async def test_lost_node_is_told_with_the_time_since(
    node: FakeNode,
    bob: User,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ago: dict[str, int],
) -> None:
    house = House(tmp_path)
    await house.close()
    since = timezone.now() - timedelta(**ago)
    monkeypatch.setattr(roster._roster, "nodes", [house.enrolled("gpu2", last_seen_at=since)])
    page = await home_of(bob)
    words = section(page, "loaded")
    moment = f"{timezone.localtime(since):%Y-%m-%d %H:%M}" if ago else f"{since:%H:%M}"
    assert f"gpu2 : lost since {moment}" in words
    assert f'datetime="{timezone.localtime(since).isoformat()[:13]}' in page


async def test_node_that_answers_is_not_told_as_lost(
    node: FakeNode, bob: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = House(tmp_path)
    monkeypatch.setattr(roster._roster, "nodes", [house.enrolled("far")])
    words = section(await home_of(bob), "loaded")
    assert "far : 0 B" in words
    assert "lost" not in words
    await house.close()
