"""What a node tells of itself: what is in memory, and how it stands, again and again.

Reads the scheduler and the runners' processes; changes nothing and knows no connection.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import structs

from inference.engine.line import Runner, RunnerState
from inference.engine.runner_process import RunnerProcess
from inference.engine.scheduler import Scheduler
from inference.messages import LoadedModel

REPORT_EVERY_S: Final = 1.0
# Changes come in bursts: one report tells of all of them.
_CHANGE_S: Final = 0.05


def loaded_models(
    scheduler: Scheduler, processes: Mapping[str, RunnerProcess], now: float
) -> tuple[LoadedModel, ...]:
    """Return what is in memory, the latest expiry first."""
    models = [
        model
        for runner in scheduler.runners
        if runner.state is not RunnerState.STOPPING
        for model in _listed(runner, processes.get(runner.key), now)
    ]
    return tuple(sorted(models, key=_expiry_of, reverse=True))


def _listed(runner: Runner, process: RunnerProcess | None, now: float) -> Iterator[LoadedModel]:
    """Yield the model of a runner; of an upstream's, those it has had requests for."""
    listed = _described(runner, process, now)
    if not runner.served:
        yield listed
    for digest, (model, window_tokens) in runner.served.items():
        yield structs.replace(
            listed,
            name=model.name,
            digest=digest,
            context_length=window_tokens,
            is_busy=runner.has_requests_for(digest),
        )


def _described(runner: Runner, process: RunnerProcess | None, now: float) -> LoadedModel:
    opened = process.opened if process else None
    # What is still loading is listed too, with what it is expected to take (contract 7).
    stays_whole_time = opened is None or runner.is_busy
    left_s = runner.keep_alive_s if stays_whole_time else runner.expires_at - now
    is_endless = runner.is_pinned or left_s == float("inf")
    need = runner.need
    return LoadedModel(
        name=runner.model.name,
        digest=runner.model.digest,
        size_bytes=opened.size_bytes if opened else need.system_bytes + need.gpu_bytes,
        size_vram_bytes=opened.size_vram_bytes if opened else need.gpu_bytes,
        context_length=opened.context_length if opened else runner.options.num_ctx,
        expires_in_s=None if is_endless else left_s,
        is_loading=opened is None,
        is_busy=runner.is_busy,
    )


def _expiry_of(model: LoadedModel) -> float:
    return float("inf") if model.expires_in_s is None else model.expires_in_s


class Reporter:
    """Calls `tell` soon after each change, and every second while `is_wanted`."""

    def __init__(self, tell: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        self._tell = tell
        self._is_wanted = is_wanted
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = float("inf")

    def changed(self) -> None:
        """Something has changed, or somebody new listens."""
        self._call_at(time.monotonic() + _CHANGE_S)

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due_at = None, float("inf")

    def _call_at(self, due_at: float) -> None:
        if due_at >= self._due_at or not self._is_wanted():
            return
        self.close()
        self._due_at = due_at
        delay_s = max(0.0, due_at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._report)

    def _report(self) -> None:
        self._timer, self._due_at = None, float("inf")
        if self._is_wanted():
            self._tell()
            self._call_at(time.monotonic() + REPORT_EVERY_S)
