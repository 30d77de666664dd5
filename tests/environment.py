"""Pytest plugin: the environment that settings read, set before Django is loaded.

Every run gets a data directory of its own, so tests never touch a developer's site. Workers of
pytest-xdist have theirs, and a folder that all of them share.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Where the folder of the whole run is told.
RUN_FOLDER = "TESTS_RUN_FOLDER"


def _own_folder() -> str:
    folder = tempfile.mkdtemp(prefix="ollamasite-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_data_dir = Path(_own_folder())
if RUN_FOLDER not in os.environ:
    os.environ[RUN_FOLDER] = _own_folder()
for _name in [name for name in os.environ if name.startswith("OLLAMASITE_")]:
    del os.environ[_name]
os.environ["OLLAMASITE_DATA_DIR"] = str(_data_dir)
os.environ["OLLAMASITE_SECRET_KEY"] = "secret-key-of-the-tests-only-0123456789-abcdefghij"
os.environ["OLLAMASITE_KEY_PEPPER"] = "pepper-of-the-tests-only"
# Kept for all that follow: without, every process of the tests and of the sites that they start
# compiles each of its modules again, some seconds of it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
