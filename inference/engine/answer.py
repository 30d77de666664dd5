"""What one answer says: how its next token is chosen, and its tokens → text, thinking, tool calls.

A schema holds from the first character of the text, so it waits while the model thinks. Log
probabilities go on with the text of their tokens, even where the parser still holds that back.
Knows no batch, no cache and no template; the formats are `inference.output`'s.
"""

from typing import NamedTuple

from inference.engine.model import Constraint, Logits, Sampler, Vocabulary
from inference.engine.text import TextStream
from inference.messages import ChatPrompt, Generate, TokenLogprob, ToolCall
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
    ) -> None:
        """`form` is what `output_format` says, `prompt_end` the last of the prompt's text."""
        self._vocabulary = vocabulary
        self._constraint = constraint
        self._stream = TextStream(request.sampling.stop)
        self._parser: OutputParser | None = None
        self._shown: frozenset[bytes] = frozenset()
        if form is not None and isinstance(request.prompt, ChatPrompt):
            tools = request.prompt.tools
            self._parser = OutputParser(
                form, tools=tools, splits_thinking=request.splits_thinking, prompt_end=prompt_end
            )
            self._shown = _shown_names(form, has_tools=bool(tools))
        self._has_begun = False  # something was said, if only the beginning of a tag
        self._schema_holds = constraint is not None and not self._may_think

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._stream.has_stopped

    @property
    def is_complete(self) -> bool:
        """Whether the schema lets nothing follow."""
        constraint = self._constraint
        return constraint is not None and self._schema_holds and constraint.is_complete

    @property
    def changes_logits(self) -> bool:
        """Whether `choose` may write into the logits it gets."""
        return self._constraint is not None

    def choose(self, sampler: Sampler, logits: Logits) -> int:
        """Choose the next token from the logits behind the last, of shape (vocabulary,).

        Raises DecodeError where no token can be chosen.
        """
        constraint = self._constraint
        if constraint is None:
            return sampler.choose(logits)
        if not self._schema_holds:
            token = sampler.choose(logits)
            if not self._rules_out_thinking(token):
                return token
            # Nothing has been shown yet, so that the schema can still decide. The sampler remembers
            # the other token as well: that only touches its penalties and its next draw.
            self._schema_holds = True
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
        if self._parser is None:
            return Said(text, logprobs=logprobs)
        parsed = self._parser.push(text) if text else _NOTHING
        return Said(self._allowed(parsed.content), parsed.thinking, parsed.calls, logprobs)

    def close(self) -> Said:
        """Return what was held back."""
        text, logprobs = self._stream.flush()
        if self._parser is None:
            return Said(text, logprobs=logprobs)
        parsed = self._parser.push(text) if text else _NOTHING
        last = self._parser.flush()
        return Said(
            parsed.content + last.content,
            parsed.thinking + last.thinking,
            parsed.calls + last.calls,
            logprobs,
        )

    @property
    def _may_think(self) -> bool:
        parser = self._parser
        return parser is not None and (parser.is_thinking or parser.is_undecided)

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
