"""The Jinja environment: jinja2's sandbox as Hugging Face sets it up, with every door guarded.

Settings as in transformers: trim_blocks, lstrip_blocks, loop controls, a `generation` tag that
does nothing, raise_exception, strftime_now, `tojson` without HTML escapes. No loader: a template
cannot include, import or extend. Knows nothing of chats.
"""

import datetime
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace

from inference.prompting.errors import (
    TemplateDepthError,
    TemplateLimitError,
    TemplateParseError,
    TemplateRunError,
)
from inference.prompting.limits import MAX_SOURCE_BYTES, MAX_TEXT
from inference.prompting.sandbox import rewriting
from inference.prompting.sandbox.filters import FILTERS, TESTS
from inference.prompting.sandbox.guards import (
    GUARDED_OPERATORS,
    after_call,
    check_fields,
    concatenate,
    guarded_arguments,
    text_of,
)
from inference.prompting.sandbox.meter import current, metered

_MAX_TOKENS: Final = 12_000
_MAX_DATE_FORMAT: Final = 100
_WIDE_DATE: Final = re.compile(r"%[^%a-zA-Z]*[0-9]{2}")
_CACHE_SIZE: Final = 32
_FAILURES: Final = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    ValueError,
)
_EXHAUSTED: Final = (MemoryError, RecursionError)


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Return a template's text; `variables` must be plain data that nobody else uses.

    Raises TemplateParseError for a source that is not Jinja, TemplateRunError where the template
    fails or gives up, TemplateLimitError where it takes too much.
    """
    with metered():
        template = _compile(source)
    with metered() as meter:
        meter.give(dict(variables))
        try:
            return _collect(template.generate(variables))
        except RecursionError:
            raise TemplateDepthError("template is nested too deeply or too large") from None
        except MemoryError:
            raise TemplateLimitError("template is nested too deeply or too large") from None
        except _FAILURES as error:
            raise TemplateRunError(_reason(error)) from error


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _compile(source: str) -> jinja2.Template:
    if len(source.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        raise TemplateLimitError("template source is too large")
    try:
        return _ENVIRONMENT.from_string(source)
    except _EXHAUSTED:
        raise TemplateLimitError("template is nested too deeply or too large") from None
    except jinja2.TemplateSyntaxError as error:
        message = f"template line {error.lineno}: {_reason(error)}"
        raise TemplateParseError(message) from error
    except _FAILURES as error:
        raise TemplateParseError(_reason(error)) from error


def _collect(pieces: Iterator[str]) -> str:
    texts: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_TEXT:
            raise TemplateLimitError("template's result is too long")
        texts.append(piece)
    return "".join(texts).encode("utf-8", "replace").decode("utf-8")


def _reason(error: BaseException) -> str:
    text = str(error)[:500]
    return text if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {text}"


# ---------------------------------------------------------------- what templates find


class _Namespace(Namespace):
    """A template's namespace; prints without what it holds, which may be large."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _ChatExtension(Extension):
    """Counts a source's tokens and reads `{% generation %}`, which only marks training text."""

    tags = {"generation"}

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Pass tokens on while there are not too many."""
        for count, token in enumerate(stream):
            if count > _MAX_TOKENS:
                raise TemplateLimitError("template source is too large")
            yield token

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRunError(text_of(message)[:500])


def _strftime_now(template: str) -> str:
    """Return the host's local time in a format of strftime."""
    if len(template) > _MAX_DATE_FORMAT or _WIDE_DATE.search(template):
        raise TemplateRunError("date format is too long")
    return datetime.datetime.now().astimezone().strftime(template)


def _finalize(value: object) -> str:
    """Return what `{{ value }}` prints, and pay for it."""
    text = text_of(value)
    current().write(len(text))
    return text


# ---------------------------------------------------------------- the environment


class _MeteredEnvironment(SandboxedEnvironment):
    """jinja2's sandbox, reporting to the current meter."""

    intercepted_binops = frozenset(GUARDED_OPERATORS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, _ChatExtension],
            finalize=_finalize,
            cache_size=0,
        )
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)
        self.globals = {
            "dict": dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "range": self.globals["range"],
            "strftime_now": _strftime_now,
        }
        self.binop_table.update(GUARDED_OPERATORS)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        rewriting.rewrite(tree)
        tree.set_environment(self)
        return tree

    def call(
        self,
        context: Context,
        function: Any,
        /,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        """Call something for a template; arguments and result are paid for."""
        if getattr(function, "__func__", None) in _OWN:
            return function(*arguments)
        meter = current()
        for value in (*arguments, *named.values()):
            meter.charge(value)
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        arguments = guarded_arguments(owner, str(name), arguments)
        result = super().call(context, function, *arguments, **named)
        after_call(owner, str(name))
        meter.charge(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Use an operator for a template."""
        result = super().call_binop(context, operator, left, right)
        current().charge(result)
        return result

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """Return a guarded `format` method in place of the one of strings."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        template = str(getattr(value, "__self__", ""))
        call = wrapped

        def guarded(*arguments: Any, **named: Any) -> str:
            check_fields(template, [*arguments, *named.values()])
            return call(*arguments, **named)

        return guarded

    def metered_tick(self, characters: int) -> None:
        """Pay for a turn of a loop, or for a piece of the template's own text."""
        current().write(characters)

    def metered_iterate(self, items: Iterable[object]) -> Iterable[object]:
        """Pay for what a loop goes through."""
        return current().iterate(items)

    def metered_charge(self, value: object) -> object:
        """Pay for a container or a slice."""
        current().charge(value)
        return value

    def metered_charge_all(self, value: object) -> object:
        """Pay for one side of a comparison."""
        current().charge_all(value)
        return value

    def metered_concatenate(self, *values: object) -> str:
        """Return what `~` gives."""
        return concatenate(values)


_OWN: Final = frozenset(
    {
        _MeteredEnvironment.metered_tick,
        _MeteredEnvironment.metered_iterate,
        _MeteredEnvironment.metered_charge,
        _MeteredEnvironment.metered_charge_all,
        _MeteredEnvironment.metered_concatenate,
    }
)
_ENVIRONMENT: Final = _MeteredEnvironment()
