"""`python -m bench [WHAT …]`: measure, print the tables and put them into docs/performance.md.

Knows which measurements there are, and nothing of how one is made.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from bench import (
    access,
    chat_page,
    compare,
    compare_report,
    fairness,
    overhead,
    processes,
    repeat,
    report,
    soak,
    transfer,
    translation,
)
from bench.workplace import MODELS, PEER_PYTHON, PLACE

# What an idle machine uses for itself, at most.
_QUIET_CPUS: Final = 0.2
_DEFAULT: Final = ("compare", "fairness", "overhead", "translation", "transfer", "access")
_ON_DEMAND: Final = ("chat-page", "repeat", "soak")


def main() -> None:
    """Run the measurements that are asked for, one after the other."""
    asked = _read_command_line()
    PLACE.mkdir(exist_ok=True)
    measurements = {
        "access": _access,
        "chat-page": _chat_page,
        "compare": _compare,
        "fairness": _fairness,
        "overhead": _overhead,
        "repeat": _repeat,
        "soak": _soak,
        "transfer": _transfer,
        "translation": _translation,
    }
    for name in asked.what or _DEFAULT:
        busy_cpus = processes.busy_cpus()
        text = f"{measurements[name](asked)}\n\n{_machine(name)}{_warning(busy_cpus)}"
        sys.stdout.write(f"\n## {name}\n\n{text}\n")
        sys.stdout.flush()
        if not asked.no_document:
            report.write_section(name, text)


def _read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        choices=[*_DEFAULT, *_ON_DEMAND, []],
        default=[],
        help="all but the last three",
    )
    names = [model.name for model in MODELS]
    parser.add_argument("--models", nargs="+", choices=names, default=names, help="for compare")
    parser.add_argument("--rounds", type=int, default=3, help="for compare, transfer")
    parser.add_argument("--only", default="", help="for compare: scenarios with this in their name")
    parser.add_argument("--seconds", type=float, default=25.0, help="for fairness: of each run")
    parser.add_argument("--streams", type=int, default=overhead.STREAMS, help="for overhead")
    parser.add_argument("--profile", type=Path, help="for overhead: cProfile of web to this file")
    parser.add_argument("--tokens", type=int, default=chat_page.TOKENS, help="for chat-page")
    parser.add_argument("--minutes", type=float, default=10.0, help="for soak")
    parser.add_argument(
        "--most-growth", type=float, help="for soak: MiB a minute above which it fails"
    )
    parser.add_argument("--no-document", action="store_true", help="only print")
    return parser.parse_args()


def _access(_: argparse.Namespace) -> str:
    return access.to_markdown(access.measure())


def _chat_page(asked: argparse.Namespace) -> str:
    return chat_page.to_markdown(chat_page.measure(asked.tokens))


def _compare(asked: argparse.Namespace) -> str:
    found = compare.compare(asked.models, asked.rounds, asked.only)
    return compare_report.to_markdown(found, asked.rounds)


def _fairness(asked: argparse.Namespace) -> str:
    return fairness.to_markdown(fairness.measure(asked.seconds))


def _overhead(asked: argparse.Namespace) -> str:
    return overhead.to_markdown(overhead.measure(asked.streams, profile=asked.profile))


def _repeat(_: argparse.Namespace) -> str:
    return repeat.to_markdown(repeat.measure())


def _translation(_: argparse.Namespace) -> str:
    return translation.to_markdown(translation.measure())


def _transfer(asked: argparse.Namespace) -> str:
    return transfer.to_markdown(transfer.measure(asked.rounds))


def _soak(asked: argparse.Namespace) -> str:
    found = soak.measure(asked.minutes)
    soak.write_files(found)
    if not asked.no_document:
        shutil.copy(PLACE / "soak.svg", report.DOCUMENT.with_name("soak.svg"))
    text = soak.to_markdown(found, asked.minutes)
    growing = found.growing(asked.most_growth) if asked.most_growth is not None else []
    if growing:
        sys.exit(f"{text}\n\nnot flat: {'; '.join(growing)}")
    return text


def _machine(name: str) -> str:
    return report.machine([f"xllamacpp {peer_version()}"] if name == "compare" else [])


def _warning(busy_cpus: float) -> str:
    if busy_cpus <= _QUIET_CPUS:
        return ""
    return (
        f"\n\n**Not to be trusted:** other work kept {busy_cpus:.1f} CPUs of the machine busy when "
        "this began."
    )


def peer_version() -> str:
    """Return the version of the package that llama.cpp's server came in."""
    found = list(PEER_PYTHON.parent.parent.glob("lib/*/site-packages/xllamacpp-*.dist-info"))
    return found[0].name.removeprefix("xllamacpp-").removesuffix(".dist-info") if found else "?"


if __name__ == "__main__":
    main()
