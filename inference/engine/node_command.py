"""`ollamasite node`: the options of a node on a machine of its own.

Reads no settings and no environment of the site: such a machine has none of its secrets.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from inference.engine import hosting
from inference.engine.config import EngineConfig
from inference.engine.hosting import Place
from inference.engine.site import Site, SiteError
from inference.log_lines import TextFormatter, json_formatter

_BAD_START: Final = 2
_GIB: Final = 1024**3
_MOST_PORT: Final = 65535


def main(arguments: Sequence[str]) -> None:
    """Run a node; end with 2 and one sentence if it cannot be started."""
    asked = _parser().parse_args(arguments)
    _log_as(asked.log_format)
    try:
        site = Site(asked.site, _token(asked.token_file), asked.site_ca)
        config = _config(asked)
        host, port = asked.listen
        place = Place(host=host, port=port, advertised=_told(*(asked.advertise or asked.listen)))
        limit = None if asked.cache_limit is None else int(asked.cache_limit * _GIB)
        hosting.run(config, site, place, cache_limit_bytes=limit)
    except (OSError, SiteError, ValueError) as error:
        sys.stderr.write(f"ollamasite: {error}\n")
        sys.exit(_BAD_START)


def _log_as(log_format: str) -> None:
    """Have the log's lines written as those of the site's other processes are."""
    handler = logging.StreamHandler()
    is_json = log_format == "json"
    handler.setFormatter(json_formatter("node") if is_json else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _config(asked: argparse.Namespace) -> EngineConfig:
    folder = asked.data_dir.expanduser().resolve()
    for part in (folder, folder / "blobs", folder / "engine"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    limit = asked.memory_limit
    return EngineConfig(
        socket_path=folder / "unused.sock",
        blobs_dir=folder / "blobs",
        state_dir=folder / "engine",
        ends_dir=folder / "engine",
        parallel=asked.parallel,
        max_loaded=asked.max_loaded,
        max_queue=asked.max_queue,
        keep_alive_s=asked.keep_alive,
        drain_s=asked.drain,
        threads=asked.threads,
        memory_limit_bytes=None if limit is None else int(limit * _GIB),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollamasite node",
        description="Run models on this machine for a site on another one.",
        allow_abbrev=False,
    )
    parser.add_argument("--site", required=True, metavar="URL", help="https://HOST[:PORT]")
    parser.add_argument(
        "--token-file",
        required=True,
        type=Path,
        metavar="FILE",
        help="has what `ollamasite node-token NAME` printed at the site; - for standard input",
    )
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--listen", required=True, type=_address, metavar="HOST:PORT")
    parser.add_argument(
        "--advertise",
        type=_address,
        metavar="HOST:PORT",
        help="as the site's web processes reach it; default: what it listens on",
    )
    parser.add_argument("--data-dir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--site-ca", type=Path, metavar="FILE", help="certificates to believe")
    parser.add_argument(
        "--cache-limit", type=_gib, metavar="GIB", help="for models' files; default: the disk"
    )
    parser.add_argument("--memory-limit", type=_gib, metavar="GIB", help="for models")
    parser.add_argument("--parallel", type=_count, default=4, help="requests at once on a model")
    parser.add_argument("--max-loaded", type=_count, default=3, help="models in memory at once")
    parser.add_argument("--max-queue", type=_count, default=512, help="requests that may wait")
    parser.add_argument("--keep-alive", type=_seconds, default=300.0, metavar="SECONDS")
    parser.add_argument("--drain", type=_seconds, default=30.0, metavar="SECONDS")
    parser.add_argument("--threads", type=_threads, default=0, help="0: tried at the first load")
    return parser


def _count(text: str) -> int:
    return _whole(text, at_least=1)


def _threads(text: str) -> int:
    return _whole(text, at_least=0)


def _whole(text: str, *, at_least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < at_least:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from {at_least} on")
    return int(text)


def _gib(text: str) -> float:
    gib = _number(text)
    if not 0 < gib < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of GiB")
    return gib


def _seconds(text: str) -> float:
    seconds = _number(text)
    if seconds == -1:  # as in the site's settings
        return float("inf")
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds; -1 is for ever")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number") from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _told(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _token(path: Path) -> str:
    """Return what the file says. Raises OSError, ValueError."""
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text()
    except UnicodeDecodeError:
        text = ""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise ValueError(
            f"{path} holds no token: it is the one line that `ollamasite node-token NAME` prints "
            "at the site"
        )
    return token
