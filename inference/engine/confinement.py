"""What a runner gives up at its start, so that a fault or a hostile input harms it alone.

Knows no model and no socket.
"""

import ctypes
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def confine(*, most_files: int) -> None:
    """Give up what a runner never needs; leave when the node dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole terminal group; the node decides when a runner leaves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = most_files if hard == resource.RLIM_INFINITY else min(most_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
