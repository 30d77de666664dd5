"""What the inference process is told at its start. It reads no environment of its own."""

from dataclasses import dataclass
from pathlib import Path

from inference.engine.machine import cpu_count
from inference.messages import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of one node. Durations in seconds; `math.inf` is endless."""

    socket_path: Path
    blobs_dir: Path
    state_dir: Path | None = None  # None: what was measured is forgotten at the end
    ends_dir: Path | None = None  # where ends of requests are written down; None: nowhere
    name: str = "local"
    parallel: int = 4
    max_loaded: int = 3
    max_queue: int = 512
    keep_alive_s: float = 300.0
    load_timeout_s: float = 300.0
    watchdog_s: float = 120.0  # a runner with requests that is silent for so long is killed
    drain_s: float = 30.0
    threads: int = 0  # 0: tried at a model's first load, up to one for each CPU
    runner_spin: int = 300_000  # how often an OpenMP thread looks before it sleeps
    memory_limit_bytes: int | None = None  # of all models; None: what the machine has
    prefix_store_bytes: int = 1024**3  # of each runner, for KV states that have left their slot

    devices: tuple[Device, ...] = ()  # GPUs, as they were found at the start

    @property
    def effective_threads(self) -> int:
        """The most threads of a runner."""
        return self.threads or cpu_count()

    def weights_path(self, digest: str) -> Path:
        """Return where a GGUF of the store lies (layout: registry.blobs)."""
        return self.blobs_dir / f"sha256-{digest}"
