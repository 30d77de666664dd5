"""Which function does which kind of job, and what it is given. Knows nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models_app.jobs import JobKind
from registry import create_request, garbage, pull, push, verification
from registry.create_request import CreateRequest
from registry.garbage import GarbageArguments
from registry.jobs.context import JobContext
from registry.pull import PullArguments
from registry.push import PushArguments
from registry.verification import VerifyArguments


@dataclass(frozen=True, slots=True)
class Work:
    """What a kind of job does: `run` blocks until it is done, or raises."""

    arguments_type: Any
    run: Callable[[JobContext, Any], None]

    def do(self, context: JobContext, arguments: str) -> None:
        """Run it with arguments as the row has them: a JSON object."""
        self.run(context, msgspec.json.decode(arguments, type=self.arguments_type))


_CREATE: Final = Work(CreateRequest, create_request.run)
KINDS: Final[Mapping[JobKind, Work]] = {
    JobKind.PULL: Work(PullArguments, pull.run),
    JobKind.PUSH: Work(PushArguments, push.run),
    JobKind.CREATE: _CREATE,
    JobKind.QUANTIZE: _CREATE,
    JobKind.VERIFY: Work(VerifyArguments, verification.run),
    JobKind.COLLECT_GARBAGE: Work(GarbageArguments, garbage.run),
}
