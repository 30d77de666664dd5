"""Random weeks of two engines elsewhere with three models each, played by the test.

Whatever happens: an engine never gets more at once than it takes, over all of its models; every
request ends once; nobody is passed over again and again.
"""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.actions import (
    Action,
    CancelOnRunner,
    Dispatch,
    End,
    PauseOnRunner,
    StartRunner,
    StopRunner,
)
from inference.engine.fair_queue import COMPLETION_COST, CREDIT, PROMPT_COST
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import Scheduler
from inference.messages import (
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Unload,
    UpstreamRef,
)

ENGINES = ("near", "far")
USERS = ("ann", "bob", "hog")
MOST = 4  # that an engine takes at a time
TOKENS = 100  # of each prompt and each answer
COST = TOKENS * (PROMPT_COST + COMPLETION_COST)
# How often others may be served while one waits: what each is behind by at most, and what they
# get before they are charged for it.
PATIENCE = (len(USERS) - 1) * (int(CREDIT / COST) + 2 * MOST + 2)


class Engines:
    """Two engines and the scheduler before them. `act_…` is what can happen."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(parallel=1, max_loaded=1, max_queue=1000, keep_alive_s=60.0)
        self.now = 0.0
        self.limits = dict.fromkeys(ENGINES, 2)
        self.ready: dict[str, bool] = {}  # by runner
        self.running: dict[str, Generate] = {}
        self.waiting: dict[str, Generate] = {}
        self.slots: dict[str, int] = {}  # of what runs
        self.passed: Counter[tuple[str, str]] = Counter()  # how often somebody was, at an engine
        self.ends: Counter[str] = Counter()
        self.submitted = 0

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartRunner(key=key):
                    assert key not in self.ready
                    self.ready[key] = False
                case StopRunner(key=key):
                    assert not [r for r in self.running.values() if r.model.runner_key == key]
                    del self.ready[key]
                    self.carry_out(self.scheduler.runner_gone(key, "it has ended", self.now))
                case Dispatch(key=key, request=request):
                    assert isinstance(request, Generate)
                    self._served(key, request)
                case End(event=event):
                    self.ends[event.request_id] += 1
                    self.waiting.pop(event.request_id, None)
                case CancelOnRunner(request_id=request_id):
                    self._end(request_id)
                case PauseOnRunner():
                    raise AssertionError("an engine elsewhere cannot pause")

    def _served(self, key: str, request: Generate) -> None:
        assert self.ready[key]
        upstream = request.model.upstream
        assert upstream is not None
        limit = self.limits[upstream.name]
        self.slots[request.request_id] = min(request.choices, limit)
        del self.waiting[request.request_id]
        self.running[request.request_id] = request
        at_once = [r for r, other in self.running.items() if other.model.runner_key == key]
        assert sum(self.slots[r] for r in at_once) <= limit
        self._note_passed(key, request.user)

    def _note_passed(self, key: str, served: str) -> None:
        waiting = {r.user for r in self.waiting.values() if r.model.runner_key == key}
        for user in USERS:
            is_passed = user in waiting and user != served
            self.passed[key, user] = self.passed[key, user] + 1 if is_passed else 0
            assert self.passed[key, user] <= PATIENCE, f"{user} is passed over"

    def _end(self, request_id: str) -> None:
        request = self.running.pop(request_id)
        self.ends[request_id] += 1
        key = request.model.runner_key
        charge = Charge(request_id, TOKENS, TOKENS)
        self.carry_out(self.scheduler.charged(key, (charge,), self.now))
        self.carry_out(self.scheduler.ended(key, request_id, self.now))

    def _model(self, number: int) -> ModelRef:
        name, engine = f"m{number % 3}", ENGINES[number % 2]
        upstream = UpstreamRef(
            name=engine,
            url=f"http://{engine}/v1",
            kind="vllm",
            model=name,
            concurrency=self.limits[engine],
        )
        return ModelRef(name=name, digest=name * 32, weights="", upstream=upstream)

    def act_submit(self, number: int) -> None:
        request = Generate(
            request_id=f"r{self.submitted}",
            model=self._model(number),
            runner=RunnerOptions(num_ctx=1024 * (1 + number % 3)),
            prompt=RawPrompt(text=""),
            sampling=Sampling(),
            user=USERS[number % 7 % 3],
            choices=1 if number % 4 else 2,
        )
        self.submitted += 1
        self.waiting[request.request_id] = request
        self.carry_out(self.scheduler.submit(request, self.now))

    def act_ready(self, number: int) -> None:
        loading = [key for key, is_ready in self.ready.items() if not is_ready]
        if loading:
            key = loading[number % len(loading)]
            self.ready[key] = True
            self.carry_out(self.scheduler.runner_ready(key, self.now))

    def act_finish(self, number: int) -> None:
        if self.running:
            self._end(list(self.running)[number % len(self.running)])

    def act_cancel(self, number: int) -> None:
        request_id = f"r{number % (self.submitted + 1)}"
        self.carry_out(self.scheduler.cancel(request_id, self.now))

    def act_limit(self, number: int) -> None:
        """An administrator changes how much an engine takes; the next request tells it."""
        self.limits[ENGINES[number % 2]] = 1 + number % MOST
        self.act_submit(number)

    def act_unload(self, number: int) -> None:
        unload = Unload(request_id=f"u{number}", model=self._model(number))
        self.carry_out(self.scheduler.unload(unload, self.now))
        del self.ends[f"u{number}"]

    def act_crash(self, number: int) -> None:
        is_open = [key for key, is_ready in self.ready.items() if is_ready]
        if number % 5 or not is_open:
            return
        key = is_open[number % len(is_open)]
        del self.ready[key]
        lost = [r for r, request in self.running.items() if request.model.runner_key == key]
        for request_id in lost:
            del self.running[request_id]
        self.carry_out(self.scheduler.runner_gone(key, "it has crashed", self.now))

    def act_tick(self, number: int) -> None:
        self.now += number / 10
        self.carry_out(self.scheduler.tick(self.now))

    def settle(self) -> None:
        """Let everything come to its end without further trouble."""
        for _ in range(3 * self.submitted + 3):
            self.act_ready(0)
            self.act_finish(0)
        assert not self.waiting
        assert not self.running
        assert self.ends == {f"r{number}": 1 for number in range(self.submitted)}


ACTS = sorted(name for name in vars(Engines) if name.startswith("act_"))
PLANS = st.lists(
    st.tuples(
        st.sampled_from([*ACTS, *["act_submit"] * 6, *["act_finish"] * 3]), st.integers(0, 60)
    ),
    max_size=90,
)


@settings(deadline=None, max_examples=150)
@given(plan=PLANS)
def test_engines_get_no_more_than_they_take_and_nobody_starves(
    plan: list[tuple[str, int]],
) -> None:
    engines = Engines()
    for act, number in plan:
        getattr(engines, act)(number)
    engines.settle()


def test_who_asks_for_another_model_of_a_flooded_engine_is_served_soon() -> None:
    engines = Engines()
    for number in range(40):  # `hog` floods one model
        engines.act_submit(_number(model=0, user="hog", at=number))
    engines.act_ready(0)
    for _ in range(6):
        engines.act_finish(0)
    engines.act_submit(_number(model=1, user="ann", at=0))
    ann = f"r{engines.submitted - 1}"
    finished = 0
    while ann in engines.waiting:
        engines.act_finish(0)
        finished += 1
        assert finished <= 2  # as many as run when it comes
    engines.settle()


def _number(*, model: int, user: str, at: int) -> int:
    """Return what makes `act_submit` ask the near engine for this, with one answer."""
    found = (
        n for n in range(2, 10_000, 2) if n % 3 == model and USERS[n % 7 % 3] == user and n % 4
    )
    numbers = [next(found) for _ in range(at % 5 + 1)]
    return numbers[-1]
