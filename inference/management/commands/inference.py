"""`ollamasite inference`: settings → EngineConfig → the inference node of this machine."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from inference.engine.config import EngineConfig
from inference.engine.server import run


class Command(BaseCommand):
    """Run the inference node until SIGTERM."""

    help = "Run this machine's inference node."
    requires_system_checks = ()  # those of web are web's

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        del args, options
        run(
            EngineConfig(
                socket_path=settings.ENGINE_SOCKET,
                blobs_dir=settings.BLOBS_DIR,
                state_dir=settings.ENGINE_STATE_DIR,
                ends_dir=settings.ENGINE_STATE_DIR,
                parallel=settings.NUM_PARALLEL,
                max_loaded=settings.MAX_LOADED_MODELS,
                max_queue=settings.MAX_QUEUE,
                keep_alive_s=settings.KEEP_ALIVE_S,
                load_timeout_s=settings.LOAD_TIMEOUT_S,
                watchdog_s=settings.WATCHDOG_S,
                drain_s=settings.DRAIN_S,
                threads=settings.NUM_THREAD,
                runner_spin=settings.RUNNER_SPIN,
                memory_limit_bytes=settings.MEMORY_LIMIT_BYTES,
                prefix_store_bytes=settings.PREFIX_STORE_BYTES,
            )
        )
