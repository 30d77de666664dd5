"""What a node tells of itself: what is in memory, who runs and waits, what has been used.

Part of `inference.messages`, which others import them from; here too is what all of them are made
of. Times are durations in seconds (`_s`) or nanoseconds (`_ns`). Whoever tells is not believed
everything: a figure that no request can have is no message. Knows nothing of Django.
"""

import enum
from typing import Annotated

import msgspec

# The ledger's columns hold nothing below 0, and the sum of a million rows of the largest.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=10**16)]  # four months


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Base of every struct that is sent on its own: the class name is its tag."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of structs that are only ever fields of a `Wire`."""


class Priority(enum.IntEnum):
    """Classes of requests; the smaller number goes first (with ageing)."""

    INTERACTIVE = 0
    API = 1
    BATCH = 2


class Usage(Part, frozen=True):
    """Counters of one finished request. `load_ns` runs from arrival to model ready."""

    prompt_tokens: Tokens = 0
    prompt_eval_ns: Nanoseconds = 0
    completion_tokens: Tokens = 0
    eval_ns: Nanoseconds = 0
    load_ns: Nanoseconds = 0
    queue_ns: Nanoseconds = 0  # of the time before the start, what was spent waiting for a turn
    cached_tokens: Tokens = 0  # of the prompt's tokens, those that were in the cache
    reasoning_tokens: Tokens = 0  # of the completion's tokens, those of the thinking
    compute_ns: Nanoseconds = 0  # its share of the time that steps have taken; the node fills it in
    is_estimate: bool = False  # an upstream has told no numbers: pieces were counted


class ListLoaded(Wire, frozen=True):
    """Ask what is in memory. Answered by one LoadedModels."""

    request_id: str


class GetQueue(Wire, frozen=True):
    """Ask who waits for what. Answered by one QueueState."""

    request_id: str


class GetCounters(Wire, frozen=True):
    """Ask what has been used since the node began. Answered by one Counters."""

    request_id: str


class GetEnds(Wire, frozen=True):
    """Ask what requests have used that have ended on this node. Answered by one Ends."""

    request_id: str
    ended_ids: tuple[str, ...]


class Withdraw(Wire, frozen=True):
    """End somebody's request, whoever has sent it: `withdrawn_id`. Answered by one Withdrawn.

    Who has sent it hears Failed(CANCELLED). Whether the asker may is the web's business.
    """

    request_id: str
    withdrawn_id: str


class LoadedModel(Part, frozen=True):
    """One model in memory. `expires_in_s` counts from now; None is never.

    What is in use stays, and its time counts from when it is not; what `is_loading` is told with
    the size that is expected of it.
    """

    name: str
    digest: str
    size_bytes: int
    size_vram_bytes: int
    context_length: int
    expires_in_s: float | None
    is_loading: bool = False
    is_busy: bool = False


class LoadFailure(Part, frozen=True):
    """A model that could not be brought into memory, and has not been since."""

    name: str
    digest: str
    message: str
    ago_s: float


class LoadedModels(Wire, frozen=True):
    """Answer to ListLoaded, the latest expiry first.

    `memory_bytes` is what models may take of the machine's memory; None: nobody knows.
    """

    request_id: str
    models: tuple[LoadedModel, ...]
    node: str = ""
    memory_bytes: int | None = None
    failures: tuple[LoadFailure, ...] = ()


class Device(Part, frozen=True):
    """A GPU of a node; None: it does not tell."""

    name: str
    total_bytes: int | None = None
    free_bytes: int | None = None


class RunnerReport(Part, frozen=True):
    """A model that is in memory or on its way in. `key` is its `ModelRef.runner_key`."""

    key: str
    slots: int
    used: int  # requests that it has been given, paused ones included
    waiting: int  # that wait for their first turn
    size_bytes: int = 0
    is_ready: bool = True
    is_idle: bool = False  # it would leave for another model


class NodeReport(Wire, frozen=True):
    """How a node stands. Sent unasked: behind Welcome, at changes, and every second.

    `free_bytes` is what a further model may take now, `idle_bytes` what idle ones would leave it;
    None: no limit is known. `places` counts the models that may come without one leaving.
    """

    node: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    idle_bytes: int = 0
    places: int = 0
    devices: tuple[Device, ...] = ()
    runners: tuple[RunnerReport, ...] = ()
    waiting: int = 0  # for models that no runner has been started for yet
    is_draining: bool = False
    blobs: tuple[str, ...] | None = None  # digests that it has; None: all of the site's


class QueueEntry(Part, frozen=True):
    """A request that waits. `position` counts from 1; an estimate of None: nobody can tell yet."""

    request_id: str
    model: str  # name
    digest: str
    user: str
    priority: Priority
    position: int
    reason: str  # "loading", "fetching", "waiting for a slot", "waiting for memory", "paused"
    waited_s: float
    estimate_s: float | None = None
    key_name: str = ""


class RunningEntry(Part, frozen=True):
    """A request that a runner computes now; tokens are those computed so far.

    `tokens_per_s` is the speed of the answer; 0: it has none yet.
    """

    request_id: str
    model: str  # name
    digest: str
    user: str
    priority: Priority
    age_s: float  # since it came
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_s: float = 0.0
    key_name: str = ""


class QueueState(Wire, frozen=True):
    """Answer to GetQueue: who waits, in the order in which they would be served now.

    `on_slots` are those that run, the oldest first.
    """

    request_id: str
    entries: tuple[QueueEntry, ...]
    running: int
    slots: int  # of the loaded models together
    on_slots: tuple[RunningEntry, ...] = ()


class Withdrawn(Wire, frozen=True):
    """Answer to Withdraw."""

    request_id: str
    was_there: bool


class Counters(Wire, frozen=True):
    """Answer to GetCounters: sums over all requests that have ended since the node began."""

    request_id: str
    ended: int = 0
    failed: int = 0  # of those that have ended; cancelled ones too
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    compute_ns: int = 0


class Ends(Wire, frozen=True):
    """Answer to GetEnds: by request what it has used. One that runs or is unknown is not in it."""

    request_id: str
    usages: dict[str, Usage]
