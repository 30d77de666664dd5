"""Tests of `ollamasite bench` and of its users, against a server that answers as it is told."""

import asyncio
import io
import json
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ollamasite.load_test.figures import Recorded, summarize
from ollamasite.load_test.users import Load, LoadTestError, Users
from tests.ollamasite.load_test.chat_server import ChatServer


def load_of(server: ChatServer, **changes: Any) -> Load:
    values = {"think_s": 0.02, "duration_s": 0.8, "keys": ["a", "b"], **changes}
    return Load(url=server.url, model="m", **values)


async def run_of(server: ChatServer, users: int, **changes: Any) -> Recorded:
    async with server.running(), Users(load_of(server, **changes)) as there:
        return await there.run(users)


async def test_nobody_asks_before_they_have_their_answer() -> None:
    server = ChatServer(pieces=3, gap_s=0.02)

    run = await run_of(server, 5)

    assert server.most_at_once <= 5
    assert len(run.answers) == len(server.asked) > 5
    assert {answer.failure for answer in run.answers} == {""}


async def test_users_have_the_keys_in_turn_and_no_two_questions_alike() -> None:
    server = ChatServer()

    await run_of(server, 4)

    assert {*server.keys} == {"bearer a", "bearer b"}
    texts = [asked["messages"][0]["content"] for asked in server.asked]
    assert len({text.split()[0] for text in texts}) == len(texts)


async def test_who_thinks_asks_less() -> None:
    eager, thoughtful = ChatServer(), ChatServer()
    await run_of(eager, 3, think_s=0.0, duration_s=1.5)
    await run_of(thoughtful, 3, think_s=0.7, duration_s=1.5)

    assert len(thoughtful.asked) * 4 < len(eager.asked)


async def test_who_is_refused_does_not_hammer() -> None:
    server = ChatServer(status=503, error="busy")

    run = await run_of(server, 2, think_s=0.0)

    assert len(server.asked) <= 6  # one a second each
    assert {answer.failure for answer in run.answers} == {"HTTP 503"}


async def test_last_answers_are_heard_to_their_end() -> None:
    server = ChatServer(pieces=2, gap_s=1.2)

    run = await run_of(server, 3)

    assert [answer.failure for answer in run.answers] == ["", "", ""]


async def test_waiting_for_a_slot_is_seen_in_the_first_token() -> None:
    server = ChatServer(pieces=2, first_s=0.1, slots=1)

    found = summarize(await run_of(server, 4, think_s=0.0, duration_s=1.5))

    assert found.ttft_s.p50 is not None
    assert found.ttft_s.p50 > 0.25
    assert found.client_cpus > 0


async def test_prompts_get_the_size_that_was_asked_for() -> None:
    server = ChatServer(words_to_tokens=2.0)
    async with server.running(), Users(load_of(server, duration_s=0.5)) as users:
        await users.size_prompts(300)
        found = summarize(await users.run(2))

    assert found.prompt_tokens == pytest.approx(300, abs=3)


async def test_site_that_refuses_a_first_question_is_told() -> None:
    server = ChatServer(status=401, error={"code": "invalid_api_key"})
    async with server.running(), Users(load_of(server)) as users:
        with pytest.raises(LoadTestError, match=r"did not answer.*HTTP 401 invalid_api_key"):
            await users.size_prompts(100)


async def _bench(server: ChatServer, *options: str) -> str:
    out = io.StringIO()
    always = ["--url", server.url, "--model", "m", "--key-stdin", "--think-time", "0.05"]
    run = [*always, "--duration", "1", *options]
    async with asyncio.timeout(120):
        await asyncio.to_thread(call_command, "bench", *run, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture(autouse=True)
def _keys_come_by_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("osk-one\n\nosk-two\n"))


async def test_command_prints_a_table_and_one_sentence() -> None:
    async with ChatServer(pieces=3).running() as server:
        server.status = 200
        text = await _bench(server, "--users", "3", "--ttft", "30s", "--itl", "30s")

    assert text.splitlines()[1].split("|")[1].strip() == "users"
    assert "This server serves at least 3 users of m at 95 of 100 first tokens" in text
    assert {*server.keys} == {"bearer osk-one", "bearer osk-two"}
    assert "osk-" not in text


async def test_command_finds_the_limit_and_writes_json() -> None:
    # One at a time, 0.3 s each: four who wait for each other are too many for 0.9 s.
    async with ChatServer(pieces=1, first_s=0.3, slots=1).running() as server:
        options = ["--users", "1", "--most-users", "4", "--ttft", "0.75s", "--itl", "30s"]
        text = await _bench(server, "--find-limit", "--json", "--duration", "2s", *options)

    told = json.loads(text)
    assert told["runs"][0]["users"] == 1
    assert len(told["runs"]) > 1
    assert told["runs"][-1]["ttft_s"]["p95"] is not None
    assert "users are too many" in told["verdict"]


async def test_command_without_a_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(CommandError, match="no key on standard input"):
        await _bench(ChatServer())
