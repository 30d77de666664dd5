"""The console script `ollamasite`, also behind `manage.py` and `python -m ollamasite`.

Turns the options that settings depend on into environment variables before Django reads them,
so that a command and every process it starts agree. Knows nothing of what a command does.
"""

import argparse
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.utils.log import configure_logging

from ollamasite import data_dir

_DATA_DIR: Final = "OLLAMASITE_DATA_DIR"
_BAD_START: Final = 2
_OWNER_ONLY: Final = 0o077
_HELP: Final = """\
usage: ollamasite COMMAND [options]

  serve        everything on one machine: Redis, web, inference, worker
  web          the HTTP and WebSocket server alone
  inference    this machine's models alone
  worker       background jobs alone
  node         models on this machine for a site on another one; needs no database
  node-token   let a machine join as a node; prints its token
  nodes        the nodes: list, cordon, uncordon, drain, remove
  create-user  an account; --admin for an administrator
  create-key   an API key for a user, printed once
  invite       a link by which one person makes an account or joins a team
  team         make, change and list teams
  deactivate-user  end an account's use at once; --activate lets the person in again
  password-link  a link by which a user chooses a new password
  add-client-key  a user's ollama CLI is known by its public key
  set-model    how a model is served: shared cache, pinned in memory
  alias        a name for everybody that stands for a model; --remove
  add-upstream an engine elsewhere, such as vLLM, that serves models of this site
  upstreams    the engines elsewhere: --enable, --disable, --remove NAME
  serve-upstream  a model of such an engine gets a name here
  namespace    what a namespace may hold, which tags stay as they are
  ledger       what was used, as CSV or JSON: export --csv --group-by user
  audit        what administrators did and who signed in: list, verify
  policy       who may use which route, as a table
  personal-data  all that is known of a user: export, delete
  check        what is wrong with this site, and what to do
  backup       database, models, secrets, to a .tar file or into a folder
  restore      a backup into an empty data directory
  gc           remove what nobody needs any longer
  verify       hash every file again; --set-aside for damaged ones
  site-key     the public key by which other registries can know this site
  bench        how many users a running site serves: a load test over HTTP
  migrate      bring the database up to date (serve does it by itself)

Every command takes --data-dir DIR. `ollamasite COMMAND --help` tells its other options.
"""


def main() -> None:
    """Run the command named in sys.argv; end with 2 and one sentence if it cannot be started."""
    # Whatever is written (the database, uploads, backups) is for its owner alone.
    os.umask(_OWNER_ONLY)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ollamasite.settings")
    # A worker would have Django check all routes, and so load every page and the admin.
    os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
    if sys.argv[1:] in ([], ["help"], ["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        return
    if sys.argv[1] == "node":  # has no settings: the machine has no database and no secrets
        from inference.engine import node_command  # of this command alone

        node_command.main(sys.argv[2:])
        return
    arguments = read_command_line(sys.argv, os.environ)
    try:
        if arguments[1] == "serve":
            _prepare_data_dir(os.environ)
        if arguments[1] == "restore":
            _leave_secrets_to_the_backup(os.environ)
        if arguments[1] == "inference":  # reads settings, and needs nothing else of Django
            configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
        else:
            django.setup()
    except (ImproperlyConfigured, OSError) as error:
        sys.stderr.write(f"ollamasite: {error}\n")
        sys.exit(_BAD_START)
    if arguments[1] == "inference":
        _run_inference(arguments)
    else:
        execute_from_command_line(arguments)


def read_command_line(arguments: list[str], environ: MutableMapping[str, str]) -> list[str]:
    """Move what settings need into `environ`; return the rest for Django."""
    _, command, *options = arguments
    if not command.startswith("-"):
        command = command.replace("-", "_")
    parser = argparse.ArgumentParser(
        prog=f"ollamasite {command}", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS
    )
    parser.add_argument("--data-dir", dest=_DATA_DIR)
    if command == "serve":
        parser.add_argument("--host", dest="OLLAMASITE_HOST")
        parser.add_argument("--port", dest="OLLAMASITE_PORT")
    known, rest = parser.parse_known_args(options)
    environ.update({name: value for name, value in vars(known).items() if value is not None})
    if environ.get(_DATA_DIR, "").strip():
        # Absolute, so that it means the same to every child.
        environ[_DATA_DIR] = str(Path(environ[_DATA_DIR].strip()).expanduser().resolve())
    return ["ollamasite", command, *rest]


def _run_inference(arguments: list[str]) -> None:
    """Run the node without loading any app: it starts sooner, and takes half the memory."""
    from inference.management.commands.inference import Command  # of this command alone

    Command().run_from_argv(arguments)


def _leave_secrets_to_the_backup(environ: MutableMapping[str, str]) -> None:
    for name in data_dir.SECRET_NAMES:
        environ.setdefault(f"OLLAMASITE_{name.upper()}", data_dir.NO_SECRET_YET)


def _prepare_data_dir(environ: MutableMapping[str, str]) -> None:
    folder = Path(environ.get(_DATA_DIR) or data_dir.default_data_dir())
    try:
        data_dir.prepare(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"The data directory {folder} cannot be used ({reason}). "
            "Name another one with --data-dir, or correct its owner and permissions."
        ) from error
