"""What one answer says: how its next token is chosen, and its tokens → text, thinking, tool calls.

A schema holds from the first character of the text, so it waits while the model thinks. Where tools
are forced the text is calls as JSON, kept to a schema as well, and nothing of it is shown. Log
probabilities go on with the text of their tokens, even where the parser still holds that back.
Knows no batch, no cache and no template; the formats are `inference.output`'s.
"""

from typing import NamedTuple

from inference.engine.model import Constraint, Logits, Sampler, Vocabulary
from inference.engine.strict_calls import StrictCalls
from inference.engine.text import TextStream
from inference.messages import ChatPrompt, Generate, TokenLogprob, ToolCall
from inference.output.forced import ForcedCalls
from inference.output.formats import OutputFormat, find_format
from inference.output.parser import OutputParser, Parsed
from inference.output.syntax import token_names

_NOTHING = Parsed("", "", ())


class Said(NamedTuple):
    """What is certain now; the thinking came before the text, the calls behind it."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


def output_format(request: Generate) -> OutputFormat | None:
    """Return how the model writes what has to be told apart; None: its answer is all text.

    Reads the template, which may be slow at the first time.
    """
    prompt = request.prompt
    if not isinstance(prompt, ChatPrompt):
        return None
    if request.forced_tools and not request.splits_thinking:
        return None
    form = find_format(prompt.template, is_jinja=prompt.is_jinja, parser=request.output_parser)
    return form if request.splits_thinking or prompt.tools or form.is_channelled else None


class Answer:
    """One answer as it grows. Call `choose` and `push` in turn, then `close`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        request: Generate,
        *,
        form: OutputFormat | None = None,
        prompt_end: str = "",
        constraint: Constraint | None = None,
        strict: StrictCalls | None = None,
    ) -> None:
        """`form` is what `output_format` says, `prompt_end` the last of the prompt's text."""
        self._vocabulary = vocabulary
        self._constraint = constraint
        self._strict = strict
        tools = request.prompt.tools if isinstance(request.prompt, ChatPrompt) else ()
        self._forced = ForcedCalls(tools) if request.forced_tools else None
        # A stop string inside a forced call would leave half of it.
        self._stream = TextStream(() if self._forced else request.sampling.stop)
        self._parser: OutputParser | None = None
        self._shown: frozenset[bytes] = frozenset()
        if form is not None:
            tools = () if self._forced else tools  # the model's own way to call is not looked for
            self._parser = OutputParser(
                form, tools=tools, splits_thinking=request.splits_thinking, prompt_end=prompt_end
            )
            self._shown = _shown_names(form, has_tools=bool(tools))
        self._most_calls = request.most_calls
        self._calls = 0
        self._unclear_tokens = 0  # before it is known if they belong to the thinking
        self._was_reasoning = self._parser is not None and bool(self._parser.reasons)
        self.reasoning_tokens = 0
        self._has_begun = False  # something was said, if only the beginning of a tag
        self._schema_holds = constraint is not None and not self._may_think

    @property
    def stop_sequence(self) -> str:
        """The stop string that is complete; empty: none is."""
        return self._stream.stop_sequence

    @property
    def is_complete(self) -> bool:
        """Whether nothing follows: after a stop string, the last call, the end of a schema."""
        if self._stream.has_stopped or self._has_all_calls:
            return True
        constraint = self._constraint
        return constraint is not None and self._schema_holds and constraint.is_complete

    @property
    def changes_logits(self) -> bool:
        """Whether `choose` may write into the logits it gets."""
        return self._constraint is not None or self._strict is not None

    def choose(self, sampler: Sampler, logits: Logits) -> int:
        """Choose the next token from the logits behind the last, of shape (vocabulary,).

        Raises DecodeError where no token can be chosen.
        """
        constraint = self._constraint
        if constraint is None:
            inside = self._strict and self._strict.active
            return self._kept_to(inside, sampler, logits) if inside else sampler.choose(logits)
        if not self._schema_holds:
            token = sampler.choose(logits)
            if not (self._rules_out_thinking(token) or self._ends_without_call(token)):
                return token
            # Nothing has been shown yet, so that the schema can still decide. The sampler remembers
            # the other token as well: that only touches its penalties and its next draw.
            self._schema_holds = True
        return self._kept_to(constraint, sampler, logits)

    def _kept_to(self, constraint: Constraint, sampler: Sampler, logits: Logits) -> int:
        constraint.apply(logits)
        token = sampler.choose(logits)
        if not self._vocabulary.is_end(token):
            constraint.accept(token)
        return token

    def push(self, token: int, logprob: TokenLogprob | None = None) -> Said:
        """Take in a token that does not end the answer; return what is now certain."""
        piece = self._bytes_of(token)
        self._has_begun = self._has_begun or bool(piece.strip())
        text, logprobs = self._stream.push(piece, logprob)
        if self._is_forced:
            return self._forced_said(text, logprobs)
        if self._parser is None:
            return Said(text, logprobs=logprobs)
        self._unclear_tokens += 1
        parsed = self._parser.push(text) if text else _NOTHING
        self._count_reasoning(self._parser)
        if self._strict:
            self._follow_call(self._parser, self._strict)
        content = self._allowed(parsed.content)
        if self._forced:
            calls = self._forced.push(content) if self._schema_holds else ()
            return Said("", parsed.thinking, self._taken(calls), logprobs)
        return Said(content, parsed.thinking, self._taken(parsed.calls), logprobs)

    def close(self) -> Said:
        """Return what was held back."""
        text, logprobs = self._stream.flush()
        if self._is_forced:
            return self._forced_said(text, logprobs)
        if self._has_all_calls:
            return Said(logprobs=logprobs)
        if self._parser is None:
            return Said(text, logprobs=logprobs)
        parsed = self._parser.push(text) if text else _NOTHING
        last = self._parser.flush()
        return Said(
            "" if self._forced else parsed.content + last.content,
            parsed.thinking + last.thinking,
            self._taken(parsed.calls + last.calls),
            logprobs,
        )

    # ------------------------------------------------------------ calls

    @property
    def _has_all_calls(self) -> bool:
        return self._most_calls is not None and self._calls >= self._most_calls

    @property
    def _is_forced(self) -> bool:
        """Whether the text is forced calls now, the thinking being over."""
        return self._forced is not None and self._schema_holds

    def _forced_said(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> Said:
        calls = self._forced.push(text) if self._forced else ()
        return Said(tool_calls=self._taken(calls), logprobs=logprobs)

    def _taken(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """Return as many of the next calls as there may be."""
        if not calls:
            return calls
        if self._most_calls is not None:
            calls = calls[: self._most_calls - self._calls]
        self._calls += len(calls)
        return calls

    def _follow_call(self, parser: OutputParser, strict: StrictCalls) -> None:
        begun = parser.open_json
        if not begun or self._stream.is_whole:
            strict.follow(begun and begun + self._stream.held)

    def _ends_without_call(self, token: int) -> bool:
        """Whether a token would end the answer in its thinking, though it has to be a call."""
        return self._forced is not None and self._vocabulary.is_end(token)

    # ------------------------------------------------------------ thinking

    def _count_reasoning(self, parser: OutputParser) -> None:
        """Count the tokens since it was last clear, if they turn out to be of the thinking."""
        reasons = parser.reasons
        if reasons or self._was_reasoning:
            self.reasoning_tokens += self._unclear_tokens
        if reasons is not None or self._was_reasoning:
            self._unclear_tokens = 0
        self._was_reasoning = bool(reasons)

    @property
    def _may_think(self) -> bool:
        parser = self._parser
        if parser is None:
            return False
        if self._forced:
            # A channel's call is what was wanted, but for its form.
            return parser.reasons is not False
        return parser.is_thinking or parser.is_undecided

    def _rules_out_thinking(self, token: int) -> bool:
        """Whether a token, the first, means that the model does not think.

        Behind the beginning of a tag it is too late to choose another: see `_allowed`.
        """
        if self._parser is None or not self._parser.is_undecided or self._has_begun:
            return False
        text = self._stream.held + self._bytes_of(token).decode("utf-8", "ignore")
        return self._vocabulary.is_end(token) or self._parser.rules_out_thinking(text)

    def _bytes_of(self, token: int) -> bytes:
        return self._vocabulary.piece(token) or self._shown_name(token)

    def _shown_name(self, token: int) -> bytes:
        """Return the name of a control token that the parser has to see, else nothing."""
        if not self._shown:
            return b""
        name = self._vocabulary.named_piece(token)
        return name if name in self._shown else b""

    def _allowed(self, content: str) -> str:
        """Return the text that may be shown; with its first character the schema begins to hold.

        A token can end the thinking, or what looked like its beginning, and begin the text before
        a schema could choose it: what the schema does not allow there is dropped.
        """
        constraint = self._constraint
        if constraint is None or self._schema_holds or self._may_think:
            return content
        self._schema_holds = True
        begun = content.lstrip()
        return content if not begun or constraint.accept_text(begun) else ""


def _shown_names(form: OutputFormat, *, has_tools: bool) -> frozenset[bytes]:
    """Return the names of the control tokens that the parser has to see."""
    if has_tools or form.is_channelled:
        return frozenset(name.encode() for name in form.shown_tokens)
    return frozenset(name.encode() for name in token_names(form.thinking or ()))
