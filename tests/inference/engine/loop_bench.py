"""A batch loop on a FakeModel, with all that came out of it."""

from typing import Any

from msgspec import structs

from inference.engine.batch import BatchLoop
from inference.engine.prompt import prepare
from inference.engine.runner_messages import Charge
from inference.messages import (
    ChoiceEnded,
    Event,
    Failed,
    Finished,
    Generate,
    ModelRef,
    RawPrompt,
    Started,
    Token,
    TokenLogprob,
    ToolCall,
)
from tests.inference.engine.fake_model import FakeModel, generate

_OF_THE_REQUEST = frozenset(Generate.__struct_fields__)


def asked(
    request_id: str, text: str = "hello", *, digest: str = "d" * 64, **fields: Any
) -> Generate:
    """Return a request; `fields` are the request's own or its sampling options."""
    own = {name: value for name, value in fields.items() if name in _OF_THE_REQUEST}
    sampling = {name: value for name, value in fields.items() if name not in _OF_THE_REQUEST}
    request = generate(request_id, text, **{"num_ctx": 10_000, **sampling})
    model = ModelRef(name="tiny:latest", digest=digest, weights="w1")
    return structs.replace(request, model=model, **own)


def with_images(request_id: str, text: str, *images: bytes) -> Generate:
    """Return a request for text with images where `[img-N]` stands."""
    return structs.replace(asked(request_id), prompt=RawPrompt(text=text, images=images))


class LoopBench:
    """`events` and `charges` of all steps so far."""

    def __init__(
        self, model: FakeModel | None = None, *, parallel: int = 1, store_bytes: int = 0
    ) -> None:
        self.model = model or FakeModel()
        self.loop = BatchLoop(self.model, parallel=parallel, store_bytes=store_bytes)
        self.events: list[Event] = []
        self.charges: list[Charge] = []

    def add(self, request_id: str, text: str = "hello", **fields: Any) -> None:
        """Prepare a request and add it."""
        self.add_request(asked(request_id, text, **fields))

    def add_request(self, request: Generate) -> None:
        """Prepare a request and add it."""
        self.loop.add(prepare(self.model, request))

    def step(self) -> list[Event]:
        """Do one step and return its events."""
        events, charges = self.loop.step()
        self.events += events
        self.charges += charges
        return events

    def run(self) -> list[Event]:
        """Step until there is nothing to do; return all events so far."""
        while not self.loop.is_idle:
            self.step()
        return self.events

    def ask(self, request_id: str, text: str = "hello", **fields: Any) -> str:
        """Add a request, run to the end and return its answer."""
        self.add(request_id, text, **fields)
        self.run()
        return self.text(request_id)

    def text(self, request_id: str, choice: int = 0) -> str:
        """Return what a choice has said so far."""
        return "".join(token.text for token in self._tokens(request_id, choice))

    def thinking(self, request_id: str, choice: int = 0) -> str:
        """Return what a choice has thought so far."""
        return "".join(token.thinking for token in self._tokens(request_id, choice))

    def tool_calls(self, request_id: str, choice: int = 0) -> list[ToolCall]:
        """Return the calls of a choice so far."""
        return [call for token in self._tokens(request_id, choice) for call in token.tool_calls]

    def logprobs(self, request_id: str, choice: int = 0) -> list[TokenLogprob]:
        """Return the log probabilities of a choice so far."""
        return [each for token in self._tokens(request_id, choice) for each in token.logprobs]

    def end(self, request_id: str) -> Finished | Failed:
        """Return how a request has ended."""
        ends = [
            e
            for e in self.events
            if isinstance(e, Finished | Failed) and e.request_id == request_id
        ]
        assert len(ends) == 1
        return ends[0]

    def finished(self, request_id: str) -> Finished:
        """Return the good end of a request."""
        end = self.end(request_id)
        assert isinstance(end, Finished)
        return end

    def failed(self, request_id: str) -> Failed:
        """Return the bad end of a request."""
        end = self.end(request_id)
        assert isinstance(end, Failed)
        return end

    def started(self, request_id: str) -> Started:
        """Return the start of a request."""
        (start,) = [e for e in self.events if isinstance(e, Started) and e.request_id == request_id]
        return start

    def choices_ended(self, request_id: str) -> list[ChoiceEnded]:
        """Return which choices are complete, in order."""
        return [e for e in self.events if isinstance(e, ChoiceEnded) and e.request_id == request_id]

    def charged(self, request_id: str) -> tuple[int, int]:
        """Return the prompt and completion tokens that a request was charged with."""
        mine = [charge for charge in self.charges if charge.request_id == request_id]
        return sum(c.prompt_tokens for c in mine), sum(c.completion_tokens for c in mine)

    def computed_for(self, request_id: str, text: str = "hello", **fields: Any) -> int:
        """Ask, and return how many tokens were computed for it."""
        before = self.model.computed_tokens
        self.ask(request_id, text, **fields)
        return self.model.computed_tokens - before

    def _tokens(self, request_id: str, choice: int) -> list[Token]:
        return [
            e
            for e in self.events
            if isinstance(e, Token) and e.request_id == request_id and e.choice == choice
        ]
