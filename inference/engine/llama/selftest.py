"""Tells, as JSON, whether llama.cpp can be loaded here and what it can use.

    python -m inference.engine.llama.selftest

A process of its own: a library that does not fit the processor ends it by a signal. Loads no model.
"""

import json
import sys

import llama_cpp.llama_cpp as lib

from inference.engine.llama.devices import find


def main() -> None:
    """Print it."""
    found = find()
    told = {
        "system": lib.llama_print_system_info().decode(errors="replace"),
        "can_use_gpu": bool(lib.llama_supports_gpu_offload()),
        "gpu_problem": found.problem,
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
