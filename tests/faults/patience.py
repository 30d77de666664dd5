"""How long things may take: as on a quiet machine, times FAULTS_SCALE for a busy one."""

import os
from typing import Final

SCALE: Final = float(os.environ.get("FAULTS_SCALE", "1"))
# From a fault's end until a request would succeed.
READY_S: Final = 10.0 * SCALE
# Any request, whatever happens meanwhile: a node's restart is waited for, so is a silent one.
REQUEST_S: Final = 45.0 * SCALE
# What somebody looks after every half minute: journals that were left, jobs of a dead worker.
AFTERWARDS_S: Final = 90.0 * SCALE
