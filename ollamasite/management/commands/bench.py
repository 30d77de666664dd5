"""`ollamasite bench --key-stdin --model M`: how many users a running site serves."""

import asyncio
import json
import logging
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ollamasite.commands import SiteCommand
from ollamasite.durations import parse_duration_s
from ollamasite.listening import address
from ollamasite.load_test import report
from ollamasite.load_test.asking import Api
from ollamasite.load_test.figures import Summary, summarize
from ollamasite.load_test.limit import Limit, Targets, find_limit
from ollamasite.load_test.users import Load, LoadTestError, Users
from ollamasite.self_probe import SelfProbe


class Command(SiteCommand):
    """Let users ask a running site and tell what they had of it."""

    help = (
        "Load test of a running site: users who ask, read, think and ask again. Times in the table "
        "are milliseconds. It answers real questions, so run it when nobody else needs the site."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        here = SelfProbe(*address()).url
        add = parser.add_argument
        add("--url", default=here, help="the site; default: %(default)s")
        add("--model", required=True)
        add(
            "--key-stdin",
            action="store_true",
            required=True,
            help="keys are read from standard input, one a line; users have them in turn. Users of "
            "one key are one user to the site, for its limits and its turns",
        )
        add("--users", type=_count, default=8, help="how many; with --find-limit: to begin with")
        add("--find-limit", action="store_true", help="add users until a target is missed")
        add("--most-users", type=_count, default=256, help="with --find-limit")
        add("--ttft", type=_seconds, default=1.0, help="target of the first token, such as 1s")
        add("--itl", type=_seconds, default=0.1, help="target between tokens, such as 0.1s")
        add("--duration", type=_seconds, default=60.0, help="of each run, such as 60s")
        add("--prompt-tokens", type=_count, default=128, help="about so many")
        add("--answer-tokens", type=_count, default=128, help="at most; models may end earlier")
        add("--think-time", type=_seconds, default=10.0, help="between two questions, on average")
        add("--api", type=Api, choices=list(Api), default=Api.OPENAI)
        add("--ca-file", help="certificates to trust besides those of the public authorities")
        add("--json", action="store_true", help="all figures, in seconds, for a program")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure."""
        del args
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells every request
        load = _load(options, _keys())
        targets = Targets(ttft_s=options["ttft"], itl_s=options["itl"])
        try:
            limit = asyncio.run(self._measure(load, targets, options))
        except LoadTestError as error:
            raise CommandError(str(error)) from error
        sentence = report.verdict(load.model, limit, targets, load.think_s)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(limit.steps, sentence), indent=1))
            return
        self.stdout.write("\n" + report.table(limit.steps) + "\n")
        for line in [*report.remarks(limit.steps), sentence]:
            self.stdout.write(f"\n{line}")

    async def _measure(self, load: Load, targets: Targets, options: dict[str, Any]) -> Limit:
        first = options["users"]
        most = max(first, options["most_users"]) if options["find_limit"] else first
        async with Users(load) as users:
            await users.size_prompts(options["prompt_tokens"])

            async def measure(count: int) -> Summary:
                self.stderr.write(f"{count} users for {load.duration_s:g} s …")
                return summarize(await users.run(count))

            if options["find_limit"]:
                return await find_limit(measure, targets, first=first, most=most)
            found = await measure(first)
            is_good = targets.are_met(found)
            return Limit(found, None, [found]) if is_good else Limit(None, found, [found])


def _load(options: dict[str, Any], keys: list[str]) -> Load:
    return Load(
        url=options["url"].rstrip("/"),
        model=options["model"],
        keys=keys,
        api=options["api"],
        answer_tokens=options["answer_tokens"],
        think_s=options["think_time"],
        duration_s=options["duration"],
        ca_file=options["ca_file"],
    )


def _keys() -> list[str]:
    brought = [line.strip() for line in sys.stdin if line.strip()]
    if not brought:
        raise CommandError("--key-stdin: there was no key on standard input.")
    return brought


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    return parse_duration_s(text)
