"""What the inference process is told at its start. It reads no environment of its own."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of one node. Durations in seconds; `math.inf` is endless."""

    socket_path: Path
    blobs_dir: Path
    name: str = "local"
    parallel: int = 4
    max_loaded: int = 3
    max_queue: int = 512
    keep_alive_s: float = 300.0
    load_timeout_s: float = 300.0
    drain_s: float = 30.0
    threads: int = 0  # 0: one for each CPU this process may use

    @property
    def effective_threads(self) -> int:
        """Threads of a runner."""
        return self.threads or len(os.sched_getaffinity(0))

    def weights_path(self, digest: str) -> Path:
        """Return where a GGUF of the store lies (layout: registry.blobs)."""
        return self.blobs_dir / f"sha256-{digest}"
