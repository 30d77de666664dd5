"""The formats that have names, and the pieces of which families of models make theirs.

Knows nothing of templates.
"""

from collections.abc import Mapping
from typing import Final

from inference.output.harmony import TOKENS
from inference.output.syntax import (
    CallSyntax,
    JsonCall,
    NamedCall,
    OutputFormat,
    PythonCall,
    TaggedCall,
    output_format,
)

THINK: Final = ("<think>", "</think>")
_START_THINKING: Final = ("<|START_THINKING|>", "<|END_THINKING|>")
# Tags that models with thinking use, where a template does not tell. The first that occurs counts.
THINKING_TAGS: Final = (
    THINK,
    _START_THINKING,
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<reasoning>", "</reasoning>"),
    ("<thinking>", "</thinking>"),
    ("<|channel>thought", "<channel|>"),
)

_JSON: Final = JsonCall()
_FUNCTION_TAGS: Final = TaggedCall(
    opening="<function=",
    name_end=">",
    key_opening="<parameter=",
    key_end=">",
    value_end="</parameter>",
    closing="</function>",
)
_INVOKE_TAGS: Final = TaggedCall(
    opening='<invoke name="',
    name_end='">',
    key_opening='<parameter name="',
    key_end='">',
    value_end="</parameter>",
    closing="</invoke>",
)
_DSML_TAGS: Final = TaggedCall(
    opening='<｜DSML｜invoke name="',
    name_end='">',
    key_opening='<｜DSML｜parameter name="',
    key_end='">',
    value_end="</｜DSML｜parameter>",
    closing="</｜DSML｜invoke>",
)
_KEY_VALUE_TAGS: Final = TaggedCall(
    opening="<tool_call>",
    name_end="",
    key_opening="<arg_key>",
    key_end="</arg_key> <arg_value>",
    value_end="</arg_value>",
    closing="</tool_call>",
)

BARE: Final = CallSyntax((_JSON,), ("<|python_tag|>",), is_bare=True)
HERMES: Final = CallSyntax(
    (_KEY_VALUE_TAGS, _FUNCTION_TAGS, _JSON), ("<tool_call>",), ("</tool_call>",)
)
MISTRAL: Final = CallSyntax(
    (NamedCall("[TOOL_CALLS]", ("[CALL_ID]", "[ARGS]")), _JSON), ("[TOOL_CALLS]",)
)
GRANITE: Final = CallSyntax(
    (_JSON,), ("<|tool_call|>", "<tool_call>"), ("<|/tool_call|>", "</tool_call>")
)
COMMAND: Final = CallSyntax((_JSON,), ("Action: ```json", "Action:```json"), ("```",))
COMMAND_7B: Final = CallSyntax((_JSON,), ("<|START_ACTION|>",), ("<|END_ACTION|>",))
FUNCTOOLS: Final = CallSyntax((_JSON,), ("functools",))
TOOLCALL: Final = CallSyntax((_JSON,), ("<TOOLCALL>", "<toolcall>"), ("</TOOLCALL>", "</toolcall>"))
_SEPARATOR: Final = "<｜tool▁sep｜>"
_BEGIN: Final = "<｜tool▁call▁begin｜>"
DEEPSEEK: Final = CallSyntax(
    (
        NamedCall(f"{_BEGIN}function{_SEPARATOR}", (_SEPARATOR, "```json")),
        NamedCall(_BEGIN, (_SEPARATOR, "```json")),
    ),
    ("<｜tool▁calls▁begin｜>",),
    ("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
)
DSML: Final = CallSyntax(
    (_DSML_TAGS,),
    ("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
    ("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
)
KIMI: Final = CallSyntax(
    (NamedCall("<|tool_call_begin|>", ("<|tool_call_argument_begin|>",)),),
    ("<|tool_calls_section_begin|>",),
    ("<|tool_call_end|>", "<|tool_calls_section_end|>"),
)
MINIMAX: Final = CallSyntax((_INVOKE_TAGS,), ("<minimax:tool_call>",), ("</minimax:tool_call>",))
SOLAR: Final = CallSyntax(
    (NamedCall("<|tool_call:begin|>", ("<|tool_call:name|>", "<|tool_call:args|>")),),
    ("<|tool_calls|>",),
    ("<|tool_call:end|>", "<|calls|>"),
)
SEED: Final = CallSyntax((_FUNCTION_TAGS,), ("<seed:tool_call>",), ("</seed:tool_call>",))
GEMMA: Final = CallSyntax(
    (NamedCall("<|tool_call>call:", (), '<|"|>'),), ("<|tool_call>",), ("<tool_call|>",)
)
FUNCTION_GEMMA: Final = CallSyntax(
    (NamedCall("<start_function_call>call:", (), "<escape>"),),
    ("<start_function_call>",),
    ("<end_function_call>",),
)
OLMO: Final = CallSyntax((PythonCall(),), ("<function_calls>",), ("</function_calls>",))
LFM: Final = CallSyntax((PythonCall(), _JSON), ("<|tool_call_start|>",), ("<|tool_call_end|>",))

# Every syntax that can be recognized by the text before its first call.
SYNTAXES: Final = (
    HERMES, MISTRAL, GRANITE, COMMAND, COMMAND_7B, FUNCTOOLS, TOOLCALL, DEEPSEEK, DSML, KIMI,
    MINIMAX, SOLAR, SEED, GEMMA, FUNCTION_GEMMA, OLMO, LFM, BARE,
)  # fmt: skip
# How templates that show no calls list the tools, if that tells how the calls look.
_LISTINGS: Final = (("<|tool_list_start|>", LFM), ("List of tools: ", LFM))

GENERIC: Final = output_format(None, BARE)
HARMONY: Final = OutputFormat(None, BARE, TOKENS, is_channelled=True)

_BY_NAME: Final[Mapping[str, OutputFormat]] = {
    "harmony": HARMONY,
    "gpt-oss": HARMONY,
    "gptoss": HARMONY,
    "cogito": output_format(THINK, DEEPSEEK),
    "command": output_format(_START_THINKING, COMMAND_7B),
    "deepseek": output_format(THINK, DEEPSEEK),
    "functiongemma": output_format(None, FUNCTION_GEMMA),
    "gemma4": output_format(("<|channel>thought", "<channel|>"), GEMMA),
    "glm": output_format(THINK, HERMES),
    "granite": output_format(THINK, GRANITE),
    "kimi": output_format(THINK, KIMI),
    "lfm": output_format(THINK, LFM),
    "llama": output_format(None, BARE),
    "minimax": output_format(THINK, MINIMAX),
    "ministral": output_format(("[THINK]", "[/THINK]"), MISTRAL),
    "mistral": output_format(("[THINK]", "[/THINK]"), MISTRAL),
    "nemotron": output_format(THINK, HERMES),
    "olmo": output_format(THINK, OLMO),
    "qwen": output_format(THINK, HERMES),
    "seed": output_format(("<seed:think>", "</seed:think>"), SEED),
}


def marked_by(tag: str) -> CallSyntax:
    """Return the syntax of calls behind this text, as JSON if nothing else is known."""
    marker = tag.rstrip("[").rstrip()
    if not marker:
        return BARE
    known = (each for each in SYNTAXES if any(map(marker.endswith, each.openings())))
    return next(known, CallSyntax((_JSON,), (marker,)))


def spoken_of_in(template: str) -> CallSyntax | None:
    """Return the syntax of which a template speaks, be it in what it tells the model."""
    spoken = (each for each in SYNTAXES if any(map(template.__contains__, each.openings())))
    listed = (syntax for text, syntax in _LISTINGS if text in template)
    return next(spoken, None) or next(listed, None)


def by_parser_name(name: str) -> OutputFormat | None:
    """Return the format of a manifest's parser, by its family: `qwen3-coder` is one of qwen's."""
    wanted = name.lower()
    families = sorted(_BY_NAME, key=len, reverse=True)
    family = next((each for each in families if wanted.startswith(each)), None)
    return None if family is None else _BY_NAME[family]
