"""The chunks of an engine's answer → events, and what its user is charged as it grows.

One `Reading` for each request. The engine's own counts hold; where it tells none, each piece counts
as a token and the prompt as four bytes a token, and the usage says that it is an estimate. Pure:
knows no HTTP and no clock of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import structs

from inference.engine.runner_messages import Charge
from inference.engine.upstream.chunks import CallDelta, Choice, Chunk, Logprobs, UsageTold
from inference.engine.upstream.failures import failed, of_error
from inference.engine.upstream.options import kind_of
from inference.messages import (
    ChatPrompt,
    ChoiceEnded,
    DoneReason,
    Event,
    FillPrompt,
    Finished,
    Generate,
    RawPrompt,
    Started,
    Token,
    TokenLogprob,
    TokensPrompt,
    ToolCall,
    TopToken,
    UpstreamRef,
    Usage,
)

_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_IMAGE: Final = 256
# Of calls whose ends have not come.
_MOST_CALL_BYTES: Final = 4 * 1024 * 1024
_MOST_OPEN_CALLS: Final = 128
_GIVEN_UP: Final = frozenset({"abort", "error"})  # vLLM and SGLang, when they shut down or fail


@dataclass(slots=True)
class _OpenCall:
    """A call whose parts are still coming."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size_bytes: int = 0
    is_over: bool = False  # another one has its index

    @property
    def is_complete(self) -> bool:
        """Whether no part is missing. Of a call without arguments nobody can tell."""
        text = "".join(self.arguments)
        return self.is_over or (bool(text.strip()) and _arguments(text) is not None)

    def ends_before(self, part: CallDelta) -> bool:
        """Whether a part belongs to another call.

        The part has its index, which does not always tell: some engines have none, or the same for
        all, and begin another call with a name and an id, or with a call that is whole. Others say
        name and id of one call again.
        """
        function = part.function
        if function is None or not function.name or (part.id and part.id == self.id):
            return False
        is_whole = bool(function.text) and _arguments(function.text) is not None
        return bool(part.id or is_whole) and _arguments("".join(self.arguments)) is not None


@dataclass(slots=True)
class _Answer:
    """One choice."""

    reason: DoneReason | None = None  # None: it goes on
    stop_sequence: str = ""
    open_calls: list[_OpenCall] = field(default_factory=list)  # as they began; parts may alternate
    calls: int = 0


class Reading:
    """What has come of one request."""

    def __init__(
        self, request: Generate, upstream: UpstreamRef, clock_ns: Callable[[], int]
    ) -> None:
        self._request = request
        self._upstream = upstream
        self._kind = kind_of(upstream.kind)
        self._clock_ns = clock_ns
        self._answers = [_Answer() for _ in range(request.choices)]
        self._told: UsageTold | None = None
        self._summed_tokens = 0  # of choices whose usage was told one by one
        self._is_started = False
        self._begun_ns = clock_ns()
        self._first_ns = 0
        self._pieces = 0
        self._prompt_tokens = 0
        self._charged_prompt = 0
        self._charged_answer = 0

    @property
    def is_complete(self) -> bool:
        """Whether every choice has ended; the engine's counts may still come."""
        return all(answer.reason is not None for answer in self._answers)

    def take(self, chunk: Chunk) -> tuple[list[Event], Charge | None]:
        """Return what a chunk brings. Raises UpstreamError."""
        if chunk.error or chunk.object == "error":
            raise of_error(self._upstream, chunk.error or chunk.message)
        self._note_usage(chunk)
        events: list[Event] = []
        for choice in chunk.choices or ():
            events += self._grown(choice)
        if events and not self._is_started:
            events.insert(0, self._start())
        return events, self._charge()

    def finish(self) -> tuple[list[Event], Charge | None]:
        """Return the end, when the engine has said all. Raises UpstreamError."""
        if not self.is_complete:
            raise failed(self._upstream, "ended its answer before it was complete")
        usage = self._usage()
        self._prompt_tokens = usage.prompt_tokens
        last = self._answers[-1]
        request_id = self._request.request_id
        stop = last.stop_sequence if len(self._answers) == 1 else ""
        reason = last.reason or DoneReason.STOP
        end = Finished(request_id=request_id, reason=reason, usage=usage, stop_sequence=stop)
        return [end], self._charge()

    # ------------------------------------------------------------ counting

    def _note_usage(self, chunk: Chunk) -> None:
        if chunk.timings is not None:
            self._prompt_tokens = chunk.timings.cache_n + chunk.timings.prompt_n
        if chunk.usage is None:
            return
        self._told = chunk.usage
        if chunk.usage.prompt_tokens is not None:
            self._prompt_tokens = chunk.usage.prompt_tokens
        if self._kind.sums_usage:
            self._summed_tokens += chunk.usage.completion_tokens or 0

    def _answer_tokens(self) -> int:
        """Return how many tokens the answer has so far."""
        told = self._told.completion_tokens if self._told else None
        if told is None:
            return max(self._summed_tokens, self._pieces)
        if self._kind.sums_usage:
            return max(self._summed_tokens, 0 if self.is_complete else self._pieces)
        return told

    def _charge(self) -> Charge | None:
        prompt = max(0, self._prompt_tokens - self._charged_prompt) if self._is_started else 0
        answer = max(0, self._answer_tokens() - self._charged_answer)
        if not prompt and not answer:
            return None
        self._charged_prompt += prompt
        self._charged_answer += answer
        return Charge(
            request_id=self._request.request_id, prompt_tokens=prompt, completion_tokens=answer
        )

    def _start(self) -> Started:
        self._is_started = True
        self._first_ns = self._clock_ns()
        if not self._prompt_tokens:
            self._prompt_tokens = estimated_tokens(self._request)
        cached = self._told.cached_tokens if self._told else 0
        return Started(
            request_id=self._request.request_id,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=cached,
        )

    def _usage(self) -> Usage:
        now_ns = self._clock_ns()
        first_ns = self._first_ns or now_ns
        told = self._told
        return Usage(
            prompt_tokens=self._prompt_tokens or estimated_tokens(self._request),
            completion_tokens=self._answer_tokens(),
            cached_tokens=told.cached_tokens if told else 0,
            reasoning_tokens=told.thinking_tokens if told else 0,
            prompt_eval_ns=first_ns - self._begun_ns,
            eval_ns=now_ns - first_ns,
            is_estimate=not told or None in {told.prompt_tokens, told.completion_tokens},
        )

    # ------------------------------------------------------------ what it says

    def _grown(self, choice: Choice) -> Iterator[Event]:
        if choice.index >= len(self._answers):
            raise failed(self._upstream, "sent an answer that nobody has asked for")
        answer = self._answers[choice.index]
        if answer.reason is not None:
            return
        yield from self._said(choice, answer)
        if choice.finish_reason:
            yield from self._ended(choice, answer, choice.finish_reason)

    def _said(self, choice: Choice, answer: _Answer) -> Iterator[Token]:
        delta = choice.delta
        text = (choice.text or "") + ((delta.content or delta.refusal or "") if delta else "")
        thinking = (delta.reasoning_content or delta.reasoning or "") if delta else ""
        top = self._request.top_logprobs
        logprobs = _logprobs(choice.logprobs, top) if top is not None else ()
        parts = (delta.tool_calls or []) if delta else []
        if text or thinking or parts:
            self._pieces += 1
        if thinking:
            yield self._token(choice.index, thinking=thinking)
        if text or logprobs:
            yield self._token(choice.index, text=text, logprobs=logprobs)
        for part in parts:
            yield from self._called(choice.index, part, answer)

    def _token(self, index: int, **said: Any) -> Token:
        return Token(request_id=self._request.request_id, choice=index, **said)

    def _called(self, index: int, part: CallDelta, answer: _Answer) -> Iterator[Token]:
        calls = answer.open_calls
        call = next((one for one in reversed(calls) if one.index == part.index), None)
        if call is None or call.ends_before(part):
            if call is not None:
                call.is_over = True
            # In their order: what is complete waits for those before it.
            while calls and calls[0].is_complete:
                yield from self._close_call(index, answer)
            call = _OpenCall(part.index)
            calls.append(call)
        call.id = call.id or part.id or ""
        function = part.function
        if function is None:
            return
        call.name = call.name or function.name or ""
        if text := function.text:
            call.arguments.append(text)
            call.size_bytes += len(text)
        size_bytes = sum(one.size_bytes for one in calls)
        if size_bytes > _MOST_CALL_BYTES or len(calls) > _MOST_OPEN_CALLS:
            raise failed(self._upstream, "sent a call that is too large")

    def _close_call(self, index: int, answer: _Answer) -> Iterator[Token]:
        """Tell of the call that has begun first."""
        call = answer.open_calls.pop(0)
        most = self._request.most_calls
        if most is not None and answer.calls >= most:
            return
        text = "".join(call.arguments)
        arguments = _arguments(text)
        if arguments is None or not call.name:
            # What is no call comes out as text: nothing of an answer is lost.
            if call.name or text:
                yield self._token(index, text=f"{call.name}{text}")
            return
        told = ToolCall(name=call.name, arguments=arguments, id=call.id, index=answer.calls)
        answer.calls += 1
        yield self._token(index, tool_calls=(told,))

    def _ended(self, choice: Choice, answer: _Answer, reason: str) -> Iterator[Event]:
        if reason in _GIVEN_UP:
            raise failed(self._upstream, "gave its answer up")
        while answer.open_calls:
            yield from self._close_call(choice.index, answer)
        answer.reason = DoneReason.LENGTH if reason == "length" else DoneReason.STOP
        stops = (choice.stop_reason, choice.matched_stop)
        answer.stop_sequence = next((s for s in stops if s in self._request.sampling.stop), "")
        yield from self._told_end(choice.index, answer)

    def _told_end(self, index: int, answer: _Answer) -> Iterator[Event]:
        if len(self._answers) > 1 and answer.reason is not None:
            yield ChoiceEnded(
                request_id=self._request.request_id,
                choice=index,
                reason=answer.reason,
                stop_sequence=answer.stop_sequence,
            )
        elif not self._is_started:
            yield self._token(index)  # an empty answer has begun too


def estimated_tokens(request: Generate) -> int:
    """Return about how many tokens a prompt has, where the engine does not tell."""
    match request.prompt:
        case ChatPrompt(messages=messages, tools=tools):
            images = sum(len(message.images) for message in messages)
            size = len(msgspec.json.encode(tools)) if tools else 0
            size += sum(len((m.content + m.thinking).encode()) for m in messages)
            return -(-size // _BYTES_PER_TOKEN) + images * _TOKENS_PER_IMAGE
        case RawPrompt(text=text):
            return -(-len(text.encode()) // _BYTES_PER_TOKEN)
        case FillPrompt(prefix=prefix, suffix=suffix):
            return -(-len((prefix + suffix).encode()) // _BYTES_PER_TOKEN)
        case TokensPrompt(tokens=tokens):
            return len(tokens)


def _arguments(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return {}
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _logprobs(told: Logprobs | None, top: int) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of a piece, with as many alternatives as were asked for."""
    found = _told_logprobs(told) if told is not None else ()
    return tuple(structs.replace(one, top=one.top[:top]) for one in found)


def _told_logprobs(told: Logprobs) -> tuple[TokenLogprob, ...]:
    if told.content is not None:
        return tuple(
            TokenLogprob(
                token=_piece(one.token, one.bytes),
                logprob=one.logprob,
                top=tuple(
                    TopToken(token=_piece(top.token, top.bytes), logprob=top.logprob)
                    for top in one.top_logprobs or ()
                ),
            )
            for one in told.content
        )
    return tuple(_listed_logprobs(told))


def _listed_logprobs(told: Logprobs) -> Iterator[TokenLogprob]:
    tops = told.top_logprobs or []
    for at, token in enumerate(told.tokens or ()):
        values = told.token_logprobs or []
        top = (tops[at] if at < len(tops) else None) or {}
        yield TokenLogprob(
            token=token.encode(),
            logprob=(values[at] if at < len(values) else None) or 0.0,
            top=tuple(TopToken(token=name.encode(), logprob=value) for name, value in top.items()),
        )


def _piece(token: str, raw: list[int] | None) -> bytes:
    if raw is not None and all(0 <= byte < 256 for byte in raw):  # noqa: PLR2004 - a byte
        return bytes(raw)
    return token.encode()
