"""llama.cpp's own HTTP server, started through the package `xllamacpp`.

Run by path with the Python of `.bench/venv`, which has that package and nothing of ours. Knows
no measurement. Ends with its parent's signal.
"""

import argparse
import signal
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Serve one model until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--template-file", type=Path, required=True)
    for name in ("--port", "--slots", "--window", "--threads"):
        parser.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.chat_template = asked.template_file.read_text()
    params.n_parallel = asked.slots
    params.n_ctx = asked.window * asked.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    params.hostnames = ["127.0.0.1"]
    params.port = asked.port
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening at {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Its destructor waits for connections that a client may keep open for long.
    signal.raise_signal(signal.SIGKILL)


if __name__ == "__main__":
    # Before any thread exists, so that no other one takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
