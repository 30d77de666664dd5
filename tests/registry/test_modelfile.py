"""Modelfiles are printed with quotes only where they are needed (contract 4.3)."""

import pytest

from registry.modelfile import Command, message_commands, parameter_commands, print_modelfile


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Command("model", "/blobs/sha256-ab"), "FROM /blobs/sha256-ab"),
        (Command("model", " odd name "), "FROM  odd name "),
        (Command("system", "You are terse."), "SYSTEM You are terse."),
        (Command("system", 'say "hi"'), 'SYSTEM say "hi"'),
        (Command("system", " padded"), 'SYSTEM " padded"'),
        (Command("system", "padded "), 'SYSTEM "padded "'),
        (Command("system", 'a "b" \n c'), 'SYSTEM """a "b" \n c"""'),
        (Command("template", "a\nb"), 'TEMPLATE "a\nb"'),
        (Command("adapter", "/x"), "ADAPTER /x"),
        (Command("license", "MIT\ntext"), 'LICENSE "MIT\ntext"'),
        (Command("stop", "<|im_end|>"), "PARAMETER stop <|im_end|>"),
        (Command("stop", "\n"), 'PARAMETER stop "\n"'),
        (Command("message", "user: hi: there"), "MESSAGE user hi: there"),
        (Command("message", "user: a\nb"), 'MESSAGE user "a\nb"'),
    ],
)
def test_command_is_printed(command: Command, line: str) -> None:
    assert print_modelfile([command]) == f"{line}\n"


def test_commands_are_lines_in_their_order() -> None:
    commands = [Command("model", "x"), Command("system", "y")]
    assert print_modelfile(commands) == "FROM x\nSYSTEM y\n"


def test_parameters_are_sorted_and_lists_unrolled() -> None:
    parameters = {"temperature": 0, "stop": ["a", "b"], "num_ctx": 2048.0}
    assert print_modelfile(parameter_commands(parameters)) == (
        "PARAMETER num_ctx 2048\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER temperature 0\n"
    )


def test_messages_keep_their_order() -> None:
    commands = message_commands([("user", "hi"), ("assistant", "ho")])
    assert print_modelfile(commands) == "MESSAGE user hi\nMESSAGE assistant ho\n"
