"""Answers that satisfy a JSON schema: grammars compiled by llguidance, masks over logits.

Knows no llama.cpp: the vocabulary comes as llguidance's tokenizer. Format of the schemas:
https://json-schema.org/draft/2020-12, as far as llguidance has it; what it has not is ignored, as
Ollama does.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inference.engine.model import DecodeError, Logits, UnusableInput
from inference.engine.schema_limits import check_schema

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

logger = logging.getLogger(__name__)

# Room for indented JSON, but not for the endless blanks in which small models lose themselves.
_WHITESPACE: Final = r"[ ]?|\n[ ]{0,16}"
_KEPT_GRAMMARS: Final = 64
_MOST_REASON: Final = 300
_BITS: Final = 32
# Lower than llguidance's: about 7 ms for a mask, 100 MB for a lexer.
_STEP_LEXER_FUEL: Final = 100_000
_LEXER_STATES: Final = 50_000


class Grammars:
    """The compiled grammars of one loaded model. Safe to use from several threads."""

    def __init__(self, build_tokenizer: Callable[[], LLTokenizer]) -> None:
        """`build_tokenizer`, which takes about a second, is called at the first use."""
        self._build_tokenizer = build_tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def constraint(self, json_schema: str) -> "GrammarConstraint":
        """Return a constraint at its start. Raises UnusableInput for a schema it cannot keep."""
        digest = hashlib.sha256(json_schema.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._build_tokenizer()
            matcher = self._compiled.get(digest)
            if matcher is None:
                check_schema(json_schema)
                matcher = self._compiled[digest] = _compile(json_schema, self._tokenizer)
                if len(self._compiled) > _KEPT_GRAMMARS:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(digest)
            return GrammarConstraint(matcher.deep_copy(), self._tokenizer)


class GrammarConstraint:
    """A grammar as it stands after the tokens so far. See `Constraint`. Not thread-safe."""

    def __init__(self, matcher: LLMatcher, tokenizer: LLTokenizer) -> None:
        """Take over the matcher, which nobody else may use."""
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._n_vocab = tokenizer.vocab_size
        self._mask = np.zeros(-(-self._n_vocab // _BITS), np.uint32)

    @property
    def is_complete(self) -> bool:
        """See `Constraint`."""
        return self._matcher.is_stopped()

    def apply(self, logits: Logits) -> None:
        """See `Constraint`. Raises DecodeError where the grammar has become too complex."""
        mask = self._mask
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise DecodeError(f"the JSON schema is too complex: {_reason(self._matcher)}")
        np.invert(mask, out=mask)
        is_forbidden = np.unpackbits(mask.view(np.uint8), count=self._n_vocab, bitorder="little")
        np.copyto(logits, -np.inf, where=is_forbidden.view(np.bool_))

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        if not self._matcher.consume_token(token):
            raise DecodeError(f"token {token} is not allowed: {_reason(self._matcher)}")

    def accept_text(self, text: str) -> bool:
        """See `Constraint`."""
        tokens = self._tokenizer.tokenize_str(text)
        if self._matcher.validate_tokens(tokens) < len(tokens):
            return False
        return self._matcher.consume_tokens(tokens)

    def fresh(self) -> "GrammarConstraint":
        """See `Constraint`."""
        return GrammarConstraint(self._matcher.deep_copy(), self._tokenizer)


def _compile(json_schema: str, tokenizer: LLTokenizer) -> LLMatcher:
    """Return the grammar at its start; keywords that are unknown to llguidance are left out."""
    matcher = _matcher(json_schema, tokenizer, is_lenient=False)
    if matcher.is_error():
        refusal = _reason(matcher)
        matcher = _matcher(json_schema, tokenizer, is_lenient=True)
        if matcher.is_error():
            raise UnusableInput(f"JSON schema: {_reason(matcher)}")
        logger.info("a JSON schema is kept in part: %s", refusal)
    # A schema that is nothing but a reference to itself compiles, but no value satisfies it.
    trial = matcher.deep_copy()
    trial.compute_bitmask()
    if trial.is_stopped():
        raise UnusableInput(f"JSON schema: no value satisfies it ({_reason(trial)})")
    return matcher


def _matcher(json_schema: str, tokenizer: LLTokenizer, *, is_lenient: bool) -> LLMatcher:
    # Everything is named, since the schema's own "x-guidance" counts where these do not.
    options: JsonCompileOptions = {
        "item_separator": ",",
        "key_separator": ":",
        "whitespace_flexible": True,
        "whitespace_pattern": _WHITESPACE,
        "coerce_one_of": True,
        "lenient": is_lenient,
    }
    try:
        grammar = LLMatcher.grammar_from_json_schema(json_schema, overrides=options)
    except ValueError as error:
        raise UnusableInput(f"JSON schema: {error}") from error
    limits = LLParserLimits(
        step_lexer_fuel=_STEP_LEXER_FUEL, max_lexer_states=_LEXER_STATES, verbose_errors=False
    )
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


def _reason(matcher: LLMatcher) -> str:
    return matcher.get_error().removesuffix("<non-verbose/>").strip()[:_MOST_REASON]
