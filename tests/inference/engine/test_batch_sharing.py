"""Prefixes that several requests of a batch loop have in common are computed once."""

import pytest
from msgspec import structs

from inference.engine.prefix_cache import WORTH_KEEPING_TOKENS
from inference.messages import ChatMessage, ChatPrompt, Finished, Generate, Started
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import LoopBench, asked

PREFIX = "the quick brown fox jumps over the lazy dog " * 3  # 132 tokens
A_MEGABYTE = 1 << 20


def bench_of(parallel: int, store_bytes: int = 0) -> LoopBench:
    model = FakeModel(window_tokens=1000, batch_tokens=64)
    return LoopBench(model, parallel=parallel, store_bytes=store_bytes)


def test_a_second_request_computes_only_what_is_new_in_its_prompt() -> None:
    bench = bench_of(1)
    bench.ask("r1", PREFIX)
    assert bench.computed_for("r2", PREFIX + "and runs", num_predict=1) == len("and runs")
    assert bench.text("r2") == "T"


def test_the_cached_tokens_are_told_and_the_prompt_counts_whole() -> None:
    bench = bench_of(1)
    bench.ask("r1", PREFIX)
    bench.ask("r2", PREFIX + "and runs")
    assert bench.started("r2").cached_tokens == len(PREFIX)
    assert bench.started("r2").prompt_tokens == len(PREFIX) + 8
    usage = bench.finished("r2").usage
    assert (usage.cached_tokens, usage.prompt_tokens) == (len(PREFIX), len(PREFIX) + 8)


def test_cached_tokens_are_not_charged() -> None:
    bench = bench_of(1)
    bench.ask("r1", PREFIX)
    bench.ask("r2", PREFIX + "and runs")
    assert bench.charged("r1") == (len(PREFIX), len(PREFIX) + 1)
    assert bench.charged("r2") == (8, len(PREFIX) + 9)


def test_an_answer_is_part_of_the_next_turns_prefix() -> None:
    bench = bench_of(1)
    bench.ask("r1", "hello there")
    earlier = bench.finished("r1").context
    message = ChatMessage(role="user", content="more")
    prompt = ChatPrompt(messages=(message,), template="{{ .Prompt }}", context=earlier)
    bench.add_request(structs.replace(asked("r2", num_predict=1), prompt=prompt))
    bench.run()
    assert bench.started("r2").cached_tokens == len(earlier)


def test_a_busy_slots_prefix_is_copied() -> None:
    bench = bench_of(2)
    bench.add("r1", PREFIX + "one")
    while not bench.text("r1"):
        bench.step()
    bench.add("r2", PREFIX + "two")
    bench.run()
    assert bench.started("r2").cached_tokens == len(PREFIX)
    assert bench.text("r1") == (PREFIX + "one").upper()
    assert bench.text("r2") == (PREFIX + "two").upper()


def test_a_prefix_that_left_its_slot_is_restored_from_ram() -> None:
    bench = bench_of(1, A_MEGABYTE)
    bench.ask("r1", PREFIX)
    bench.ask("r2", "something else altogether, long enough")
    bench.ask("r3", PREFIX + "again")
    assert bench.started("r3").cached_tokens == len(PREFIX)
    assert bench.text("r3") == (PREFIX + "again").upper()


def test_a_prefix_that_left_its_slot_is_gone_without_a_store() -> None:
    bench = bench_of(1)
    bench.ask("r1", PREFIX)
    bench.ask("r2", "something else altogether, long enough")
    assert bench.computed_for("r3", PREFIX, num_predict=1) == len(PREFIX)


# ---------------------------------------------------------------- waiting for a forerunner


def test_eight_requests_that_come_together_compute_their_prefix_once() -> None:
    bench = bench_of(8)
    texts = [f"{PREFIX}{number}" for number in range(8)]
    for number, text in enumerate(texts):
        bench.add(f"r{number}", text, num_predict=1)
    bench.run()
    # The last few tokens of it are not worth waiting for.
    assert bench.model.computed_tokens < len(PREFIX) + 8 * WORTH_KEEPING_TOKENS
    assert [bench.text(f"r{n}") for n in range(8)] == ["T"] * 8


def test_who_waits_for_a_forerunner_still_says_what_it_would_say_alone() -> None:
    bench = bench_of(4)
    for number in range(4):
        bench.add(f"r{number}", f"{PREFIX}{number}" * (1 + number % 2))
    bench.run()
    for number in range(4):
        assert bench.text(f"r{number}").startswith(f"{PREFIX}{number}".upper())


def test_nobody_waits_for_a_prefix_that_is_not_theirs_to_use() -> None:
    bench = bench_of(2)
    bench.add("r1", PREFIX, user="alice")
    bench.add("r2", PREFIX, user="bob")
    bench.step()
    assert bench.started("r2").cached_tokens == 0


def test_nobody_waits_for_a_prefix_that_is_too_short_to_matter() -> None:
    bench = bench_of(2)
    bench.add("r1", PREFIX[:20] + "1" * 100)
    bench.add("r2", PREFIX[:20] + "2" * 100)
    bench.step()
    assert bench.started("r2").cached_tokens == 0


def test_who_waits_does_not_hold_up_the_others() -> None:
    bench = bench_of(3)
    bench.add("r1", PREFIX + "1")
    bench.add("r2", PREFIX + "2")
    bench.add("r3", "else")
    bench.step()
    assert bench.started("r3").prompt_tokens == 4


@pytest.mark.parametrize("way", ["cancel", "pause", "break"])
def test_a_follower_goes_on_without_a_forerunner_that_falls_out(way: str) -> None:
    bench = bench_of(2)
    bench.add("r1", PREFIX + "1")
    bench.add("r2", PREFIX + "2")
    bench.step()
    if way == "break":
        bench.model.fail_next = True
    else:
        getattr(bench.loop, way)("r1")
    bench.run()
    assert bench.text("r2") == (PREFIX + "2").upper()


# ---------------------------------------------------------------- who may share


def test_another_user_computes_everything() -> None:
    bench = bench_of(2)
    bench.ask("r1", PREFIX, user="alice")
    assert bench.computed_for("r2", PREFIX, user="bob", num_predict=1) == len(PREFIX)


def test_a_cache_group_shares_what_its_users_have_computed() -> None:
    bench = bench_of(2)
    bench.ask("r1", PREFIX, user="alice", cache_group="team")
    bench.ask("r2", PREFIX, user="bob", cache_group="team")
    assert bench.started("r2").cached_tokens == len(PREFIX) - 1


def with_system_text(request_id: str, user: str, digest: str = "d" * 64) -> Generate:
    """Return a request for the manifest's system text and the very same words."""
    messages = (
        ChatMessage(role="system", content=PREFIX, is_models_own=True),
        ChatMessage(role="user", content="the very same words"),
    )
    template = "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"
    request = asked(request_id, user=user, digest=digest, num_predict=1)
    return structs.replace(request, prompt=ChatPrompt(messages=messages, template=template))


def second_start(user: str, digest: str = "d" * 64) -> Started:
    """Let Alice ask, then somebody the same; return how that started."""
    bench = bench_of(2)
    for request in (with_system_text("r1", "alice"), with_system_text("r2", user, digest)):
        bench.add_request(request)
        bench.run()
    return bench.started("r2")


def test_users_share_the_manifests_own_tokens_and_no_more() -> None:
    assert second_start("bob").cached_tokens == len(f"system:{PREFIX};user:")


def test_the_same_user_shares_the_words_too() -> None:
    start = second_start("alice")
    assert start.cached_tokens == start.prompt_tokens - 1


def test_another_model_of_the_same_weights_shares_nothing_with_other_users() -> None:
    assert second_start("bob", digest="e" * 64).cached_tokens == 0


# ---------------------------------------------------------------- models without a KV cache


def test_a_recurrent_model_answers_right_though_it_keeps_nothing() -> None:
    bench = bench_of(3, A_MEGABYTE)
    bench.model.can_keep = False
    for number in range(6):
        bench.add(f"r{number}", f"{PREFIX}{number % 2}", choices=1 + number % 2)
    bench.run()
    assert [bench.text(f"r{n}") for n in range(6)] == [f"{PREFIX}{n % 2}".upper() for n in range(6)]
    assert all(isinstance(bench.end(f"r{n}"), Finished) for n in range(6))


def test_a_recurrent_model_goes_on_after_a_pause() -> None:
    bench = bench_of(1)
    bench.model.can_keep = False
    bench.add("r1", PREFIX)
    while len(bench.text("r1")) < 10:
        bench.step()
    bench.loop.pause("r1")
    bench.ask("r2", "bye")
    bench.loop.resume("r1")
    bench.run()
    assert bench.text("r1") == PREFIX.upper()
