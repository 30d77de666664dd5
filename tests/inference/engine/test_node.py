"""The node with real runner processes on a tiny random model."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from msgspec import structs

from inference import errors
from inference.client import EngineClient, new_request_id
from inference.engine import machine
from inference.engine.config import EngineConfig
from inference.engine.server import serve
from inference.engine.thread_memo import ThreadMemo
from inference.messages import (
    DoneReason,
    Embed,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Load,
    LoadedModel,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Started,
    Token,
    Unload,
)
from ollamasite.errors import ServiceError
from registry.gguf import read_gguf
from tests.gguf_files import EOS_TOKEN, write_tiny_model
from tests.registry.spoilt_files import readable_copies

pytestmark = [pytest.mark.slow, pytest.mark.beside]

OPTIONS = RunnerOptions(num_ctx=512)


class Engine:
    """A node in this process, its runners real child processes."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(serve(config, self.stopping))
        self.client = EngineClient(config.socket_path)

    def model(self, seed: int = 0) -> ModelRef:
        """Put a tiny model into the store."""
        path = write_tiny_model(self.config.blobs_dir / "new", seed=seed)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(self.config.weights_path(digest))
        return ModelRef(name=f"tiny{seed}:latest", digest=digest, weights=digest)

    def broken_model(self) -> ModelRef:
        """Put a file into the store that is no model."""
        self.config.weights_path("b" * 64).write_bytes(b"GGUF" + b"\xff" * 500)
        return ModelRef(name="broken:latest", digest="b" * 64, weights="b" * 64)

    async def collect(self, request: Generate | Load | Unload) -> tuple[str, Finished]:
        """Run a request to its end."""
        text = ""
        async for event in await self.client.submit(request):
            if isinstance(event, Token):
                text += event.text
            elif isinstance(event, Finished):
                return text, event
        raise AssertionError("no end")

    async def stop(self) -> None:
        """Drain the node."""
        self.stopping.set()
        await self.task
        self.client.close()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, drain_s=5.0, threads=1
    )
    engine = Engine(config)
    await asyncio.sleep(0)
    yield engine
    await engine.stop()


def _generate(model: ModelRef, text: str = "hello", **sampling: object) -> Generate:
    return Generate(
        request_id=new_request_id(),
        model=model,
        runner=OPTIONS,
        prompt=RawPrompt(text=text),
        sampling=Sampling(**{"temperature": 0.0, "num_predict": 8} | sampling),  # type: ignore[arg-type]
        wants_context=True,
    )


def _endless(model: ModelRef, seed: int, user: str = "", *, tokens: int = 100_000) -> Generate:
    """Ask for words that never end before there are so many of them."""
    never = ((EOS_TOKEN, -1000.0),)
    request = _generate(model, num_predict=tokens, temperature=2.0, seed=seed, logit_bias=never)
    return structs.replace(request, user=user)


def _long(model: ModelRef, seed: int, user: str = "") -> Generate:
    """Ask for words whose end can be waited for."""
    return _endless(model, seed, user, tokens=450)


def _runner_pids() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if b"inference.engine.runner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


async def _loaded(engine: Engine) -> list[LoadedModel]:
    return list(await engine.client.list_loaded())


async def test_a_request_loads_its_model_and_is_answered(engine: Engine) -> None:
    text, end = await engine.collect(_generate(engine.model()))
    assert text
    assert end.reason in {DoneReason.LENGTH, DoneReason.STOP}
    assert 0 < end.usage.completion_tokens <= 8
    assert end.usage.prompt_tokens > 0
    assert end.usage.load_ns > 0
    assert len(end.context) >= end.usage.prompt_tokens
    [loaded] = await _loaded(engine)
    assert loaded.name == "tiny0:latest"
    assert loaded.context_length == 512
    assert loaded.size_bytes > 100_000
    assert loaded.expires_in_s is not None
    assert 200 < loaded.expires_in_s <= 300


async def test_the_context_that_a_chat_model_embeds_with_counts_as_its_memory(
    engine: Engine,
) -> None:
    await engine.collect(_generate(engine.model()))
    [before] = await _loaded(engine)
    request = Embed(
        request_id=new_request_id(), model=engine.model(), runner=OPTIONS, inputs=("text",)
    )
    async for _event in await engine.client.submit(request):
        pass
    [after] = await _loaded(engine)
    assert after.size_bytes > before.size_bytes


async def test_many_requests_at_once_get_the_same_text_as_alone(engine: Engine) -> None:
    model = engine.model()
    texts = [f"text number {n}" for n in range(9)]
    alone = [(await engine.collect(_generate(model, text)))[0] for text in texts]
    together = await asyncio.gather(*(engine.collect(_generate(model, text)) for text in texts))
    assert [text for text, _ in together] == alone


async def test_killing_the_runner_fails_its_requests_and_the_next_works(engine: Engine) -> None:
    model = engine.model()
    await engine.collect(_generate(model))
    [pid] = _runner_pids()
    stream = await engine.client.submit(_endless(model, 1))
    async for _event in stream:
        os.kill(pid, signal.SIGKILL)
        break
    with pytest.raises(errors.RunnerCrashed, match="SIGKILL"):
        async for _event in stream:
            pass
    text, _ = await engine.collect(_generate(model))
    assert text
    assert _runner_pids() != [pid]


@pytest.mark.timeout(400)
async def test_no_spoilt_file_that_the_site_lets_in_ends_the_node(
    engine: Engine, tmp_path: Path
) -> None:
    """Of 240 spoilt files the reader refuses most; the node gets half of the others to run."""
    ends: list[str] = []
    for model in _spoilt_models(engine, tmp_path / "spoilt"):
        try:
            _, end = await engine.collect(_generate(model))
        except ServiceError as error:
            ends.append(error.code)
        else:
            ends.append(str(end.reason))
    assert len(ends) > 15
    assert len(set(ends)) > 1
    assert not engine.task.done()
    assert (await engine.collect(_generate(engine.model())))[0]


def _spoilt_models(engine: Engine, path: Path) -> Iterator[ModelRef]:
    """Put every other spoilt copy of the tiny model that passes the checks into the store."""
    good = write_tiny_model(path).read_bytes()
    head_bytes = read_gguf(path).data_offset
    for data in islice(readable_copies(good, path, head_bytes=head_bytes), None, None, 2):
        digest = hashlib.sha256(data).hexdigest()
        engine.config.weights_path(digest).write_bytes(data)
        yield ModelRef(name=f"spoilt{digest[:8]}:latest", digest=digest, weights=digest)


async def test_a_broken_file_is_an_error_in_words_and_others_go_on(engine: Engine) -> None:
    with pytest.raises(errors.LoadFailed, match=r"llama\.cpp cannot load the model"):
        await engine.collect(_generate(engine.broken_model()))
    assert (await engine.collect(_generate(engine.model())))[0]


async def test_a_missing_file_is_an_error(engine: Engine) -> None:
    missing = ModelRef(name="m", digest="c" * 64, weights="c" * 64)
    with pytest.raises(errors.LoadFailed):
        await engine.collect(_generate(missing))


async def test_a_caller_who_leaves_frees_the_slot(engine: Engine) -> None:
    model = engine.model()
    streams = [
        await engine.client.submit(_endless(model, n)) for n in range(engine.config.parallel)
    ]
    async for _event in streams[0]:
        break
    for stream in streams:
        stream.close()
    async with asyncio.timeout(60):
        assert (await engine.collect(_generate(model)))[0]


async def test_load_unload_and_keep_alive(engine: Engine) -> None:
    model = engine.model()
    load = Load(request_id="l", model=model, runner=OPTIONS, keep_alive_s=float("inf"))
    _, end = await engine.collect(load)
    assert end.reason is DoneReason.LOAD
    [loaded] = await _loaded(engine)
    assert loaded.expires_in_s is None
    _, end = await engine.collect(Unload(request_id="u", model=model))
    assert end.reason is DoneReason.UNLOAD
    assert await _loaded(engine) == []
    async with asyncio.timeout(30):
        while _runner_pids():
            await asyncio.sleep(0.05)


async def test_a_model_is_listed_while_it_is_loading(engine: Engine) -> None:
    load = Load(request_id="l", model=engine.model(), runner=OPTIONS, keep_alive_s=60.0)
    stream = await engine.client.submit(load)
    [loading] = await _loaded(engine)

    assert (loading.expires_in_s, loading.context_length) == (60.0, OPTIONS.num_ctx)
    assert [type(event) for event in [event async for event in stream]] == [Finished]


async def test_a_runner_sees_no_environment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMASITE_PROBE", "secret")
    await engine.collect(_generate(engine.model()))
    [pid] = _runner_pids()
    names = {
        entry.split(b"=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    }
    assert names - {b""} == {b"GOMP_SPINCOUNT", b"LC_ALL"}


async def test_more_models_than_fit_take_turns(tmp_path: Path) -> None:
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, max_loaded=1, threads=1
    )
    engine = Engine(config)
    await asyncio.sleep(0)
    models = [engine.model(seed) for seed in range(3)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(engine.collect(_generate(model)) for model in models))
    assert all(end.usage.completion_tokens for _, end in answers)
    await engine.stop()


async def test_a_full_queue_is_refused_in_the_contracts_words(tmp_path: Path) -> None:
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, max_queue=1, parallel=1, threads=1
    )
    engine = Engine(config)
    await asyncio.sleep(0)
    model = engine.model()
    first = await engine.client.submit(_generate(model))
    with pytest.raises(errors.ServerBusy, match=r"server busy, please try again\.  maximum"):
        await engine.collect(_generate(model))
    assert isinstance([event async for event in first][-1], Finished)
    await engine.stop()


async def test_draining_lets_a_running_answer_finish(tmp_path: Path) -> None:
    config = EngineConfig(socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, threads=1)
    engine = Engine(config)
    await asyncio.sleep(0)
    model = engine.model()
    await engine.collect(_generate(model))
    stream = await engine.client.submit(_generate(model, num_predict=60, temperature=1.0, seed=4))
    events = []
    async for event in stream:
        events.append(event)
        engine.stopping.set()
    assert isinstance(events[-1], Finished)
    await engine.stop()
    assert _runner_pids() == []


async def test_losing_the_node_fails_what_was_open(tmp_path: Path) -> None:
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, threads=1, drain_s=0.0
    )
    engine = Engine(config)
    await asyncio.sleep(0)
    model = engine.model()
    await engine.collect(_generate(model))
    stream = await engine.client.submit(_endless(model, 7))
    with pytest.raises((errors.EngineUnavailable, errors.RunnerCrashed)):
        async for _event in stream:
            engine.stopping.set()
    await engine.stop()
    with pytest.raises(errors.EngineUnavailable):
        await engine.client.submit(_generate(model))


def test_a_config_knows_where_weights_lie(tmp_path: Path) -> None:
    config = EngineConfig(socket_path=tmp_path / "s", blobs_dir=tmp_path)
    assert config.weights_path("ab") == tmp_path / "sha256-ab"
    assert replace(config, threads=3).effective_threads == 3
    assert config.effective_threads >= 1


async def _started(tmp_path: Path, **settings: object) -> Engine:
    config = EngineConfig(
        socket_path=tmp_path / "e.sock",
        blobs_dir=tmp_path,
        **({"threads": 1} | settings),  # type: ignore[arg-type]
    )
    engine = Engine(config)
    await asyncio.sleep(0)
    return engine


async def test_a_runner_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    engine = await _started(tmp_path, watchdog_s=4.0)
    model = engine.model()
    stream = await engine.client.submit(_endless(model, 1, "alice"))
    async for _event in stream:
        [pid] = _runner_pids()
        os.kill(pid, signal.SIGSTOP)
        break
    async with asyncio.timeout(60):
        with pytest.raises(errors.RunnerCrashed, match="did not answer for"):
            async for _event in stream:
                pass
        assert (await engine.collect(_generate(model)))[0]
    assert _runner_pids() != [pid]
    await engine.stop()


async def test_an_idle_runner_is_not_taken_for_a_hanging_one(tmp_path: Path) -> None:
    engine = await _started(tmp_path, watchdog_s=4.0)
    model = engine.model()
    await engine.collect(_generate(model))
    before = _runner_pids()
    await asyncio.sleep(6)
    await engine.collect(_generate(model))
    assert _runner_pids() == before
    await engine.stop()


async def test_a_runner_that_hangs_while_it_loads_is_given_up(tmp_path: Path) -> None:
    engine = await _started(tmp_path, load_timeout_s=0.01)
    async with asyncio.timeout(60):
        with pytest.raises(errors.LoadFailed, match="timed out waiting for the model to load"):
            await engine.collect(_generate(engine.model()))
        while _runner_pids():
            await asyncio.sleep(0.05)
    await engine.stop()


async def test_a_model_too_large_for_the_limit_is_told_with_numbers(tmp_path: Path) -> None:
    engine = await _started(tmp_path, memory_limit_bytes=100 * 1024)
    wanted = r"model requires more system memory \(.* MiB\) than is available \(100\.0 KiB\)"
    with pytest.raises(errors.LoadFailed, match=wanted):
        await engine.collect(_generate(engine.model()))
    await engine.stop()


async def test_memory_for_one_model_lets_two_take_turns(tmp_path: Path) -> None:
    engine = await _started(tmp_path)
    models = [engine.model(seed) for seed in range(2)]
    await engine.collect(_generate(models[0]))
    [loaded] = await _loaded(engine)
    await engine.stop()
    engine = await _started(tmp_path, memory_limit_bytes=int(1.9 * loaded.size_bytes))
    async with asyncio.timeout(60):
        await asyncio.gather(*(engine.collect(_generate(model)) for model in models))
    assert len(await _loaded(engine)) == 1
    await engine.stop()


async def test_a_paused_answer_is_the_same_as_an_undisturbed_one(tmp_path: Path) -> None:
    engine = await _started(tmp_path, parallel=2)
    model = engine.model()
    long = structs.replace(_generate(model, "a long answer", num_predict=200), user="hog")
    alone, _ = await engine.collect(long)
    hogs = [structs.replace(long, request_id=new_request_id()) for _ in range(4)]
    answers = [asyncio.create_task(engine.collect(hog)) for hog in hogs]
    for number in range(10):
        short = structs.replace(_generate(model, f"short {number}"), user=f"p{number % 3}")
        await engine.collect(short)
    assert [text for text, _ in await asyncio.gather(*answers)] == [alone] * 4
    await engine.stop()


async def test_a_short_question_does_not_wait_for_a_hogs_long_answers(tmp_path: Path) -> None:
    engine = await _started(tmp_path, parallel=2)
    model = engine.model()
    await engine.collect(_generate(model))
    hogs = [await engine.client.submit(_endless(model, seed, "hog")) for seed in range(8)]
    async with asyncio.timeout(60):
        await engine.collect(structs.replace(_generate(model), user="polite"))
    for hog in hogs:
        hog.close()
    await engine.stop()


async def test_the_queue_tells_who_waits(tmp_path: Path) -> None:
    engine = await _started(tmp_path, parallel=1)
    model = engine.model()
    first = await engine.client.submit(_endless(model, 1, "alice"))
    async for _event in first:
        break
    second = await engine.client.submit(_long(model, 2, "alice"))
    state = await engine.client.get_queue()
    assert [(entry.user, entry.reason) for entry in state.entries] == [
        ("alice", "waiting for a slot")
    ]
    assert (state.running, state.slots) == (1, 1)
    first.close()
    started = [event async for event in second if isinstance(event, Started)]
    assert [event.queue_position for event in started] == [1]
    assert started[0].queue_ns > 0
    await engine.stop()


async def test_the_thread_count_is_measured_once(tmp_path: Path) -> None:
    engine = await _started(tmp_path, threads=0, state_dir=tmp_path / "engine")
    model = engine.model()
    await engine.collect(_generate(model))
    known = ThreadMemo(tmp_path / "engine", cpus=machine.cpu_count()).recall(model.weights)
    assert 1 <= known <= machine.cpu_count()
    await engine.stop()


async def test_a_runner_is_the_first_to_go_when_memory_runs_out(engine: Engine) -> None:
    await engine.collect(_generate(engine.model()))
    [pid] = _runner_pids()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"


async def test_a_runners_spinning_is_as_configured(tmp_path: Path) -> None:
    engine = await _started(tmp_path, runner_spin=123)
    await engine.collect(_generate(engine.model()))
    [pid] = _runner_pids()
    assert b"GOMP_SPINCOUNT=123\0" in Path(f"/proc/{pid}/environ").read_bytes()
    await engine.stop()


async def test_a_request_that_comes_again_by_another_connection_is_answered_there_once(
    engine: Engine,
) -> None:
    """A web process sends it again when it has lost a connection that the node believes in."""
    model = engine.model()
    await engine.collect(_generate(model))
    [pid] = _runner_pids()
    # One that runs, and one that waits behind four that do.
    for request in (_long(model, 1), _generate(model)):
        os.kill(pid, signal.SIGSTOP)  # nothing ends before it has come again
        busy = [await engine.client.submit(_long(model, seed)) for seed in range(4)]
        first = await engine.client.submit(request)
        other = EngineClient(engine.config.socket_path)
        second = await other.submit(request)
        await other.list_loaded()  # it has been read
        os.kill(pid, signal.SIGCONT)
        heard = [event async for event in second]
        assert [type(event) for event in heard if isinstance(event, Finished | Started)] == [
            Started,
            Finished,
        ]
        with pytest.raises(ServiceError):
            async for _event in first:
                pass
        for stream in busy:
            stream.close()
        other.close()
    text, _ = await engine.collect(_generate(model))
    assert text


@pytest.mark.parametrize("is_lost", [False, True], ids=["cancelled", "lost"])
async def test_a_request_that_waits_for_its_first_copy_can_be_given_up(
    engine: Engine, *, is_lost: bool
) -> None:
    """Its runner stands still, so the first copy cannot end before the second is given up."""
    model = engine.model()
    request = _endless(model, 1, "alice")
    first = await engine.client.submit(request)
    async for _event in first:
        break
    [pid] = _runner_pids()
    os.kill(pid, signal.SIGSTOP)
    other = EngineClient(engine.config.socket_path)
    heard: list[Event] = []
    second = await other.submit(request, heard.append)
    await other.list_loaded()  # it has been read
    if is_lost:
        other.close()
    else:
        second.close()
        await _until(lambda: heard)
    await engine.client.list_loaded()
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(errors.RequestCancelled):
        async for _event in first:
            pass
    _, end = await engine.collect(_generate(model))
    assert end.usage.completion_tokens
    state = await engine.client.get_queue()
    assert (state.running, state.entries) == (0, ())
    assert (await engine.client.get_counters()).ended == 2
    code = FailureCode.SHUTTING_DOWN if is_lost else FailureCode.CANCELLED
    assert [event.code for event in heard if isinstance(event, Failed)] == [code]
    assert len(heard) == 1
    other.close()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)
