"""What a Modelfile asks for: sources, texts, parameters with their types (contract 4.2, 4.4)."""

from typing import Any

import pytest

from models_app.errors import InvalidModelName
from ollamasite.errors import ServiceError
from registry.create_request import CreateRequest
from registry.digest import Digest
from registry.errors import InvalidCreate, InvalidDigest, InvalidModelfile
from registry.modelfile_request import read_modelfile

HEX = "0123456789abcdef" * 4
OTHER_HEX = "f" * 64


def parameters_of(*lines: str) -> Any:
    text = "".join(f"PARAMETER {line}\n" for line in lines)
    return read_modelfile(f"FROM foo\n{text}").parameters


def test_from_names_a_model() -> None:
    assert read_modelfile("FROM foo:bar") == CreateRequest(base_name="foo:bar")


def test_last_from_counts() -> None:
    assert read_modelfile("FROM foo\nFROM bar").base_name == "bar"


@pytest.mark.parametrize("written", [f"@sha256:{HEX}", f"@sha256-{HEX}", f"/a/b/sha256-{HEX}"])
def test_from_names_an_uploaded_file(written: str) -> None:
    asked = read_modelfile(f"FROM {written}")
    assert (asked.base_name, asked.files) == ("", {"1.gguf": Digest(HEX)})


def test_several_files_are_all_taken() -> None:
    asked = read_modelfile(f"FROM @sha256:{HEX}\nFROM @sha256:{OTHER_HEX}")
    assert asked.files == {"1.gguf": Digest(HEX), "2.gguf": Digest(OTHER_HEX)}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "./model.gguf",
        "../model",
        "~/model",
        "model.gguf",
        "dir/Model.GGUF",
        "C:\\model",
        ".\\model",
        "model.safetensors",
    ],
)
@pytest.mark.parametrize("keyword", ["FROM", "ADAPTER"])
def test_path_is_refused_as_the_servers(keyword: str, path: str) -> None:
    with pytest.raises(InvalidCreate) as refusal:
        read_modelfile(f"FROM foo\n{keyword} {path}")
    if keyword == "ADAPTER":
        assert refusal.value.message.startswith("ADAPTER names a file of the server")
    else:
        assert "of the server, which is not read" in refusal.value.message


def test_adapter_is_an_uploaded_file() -> None:
    assert read_modelfile(f"FROM foo\nADAPTER @sha256:{HEX}").adapters == {"1.gguf": Digest(HEX)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM ", InvalidModelName),
        ("FROM a b", InvalidModelName),
        ("FROM @sha256:zz", InvalidDigest),
        ("FROM @", InvalidDigest),
        (f"FROM foo\nFROM @sha256:{HEX}", InvalidCreate),
        ("FROM foo\nADAPTER foo", InvalidCreate),
        ("FROM foo\nDRAFT bar", InvalidCreate),
        ("FROM foo\nREQUIRES yesterday", InvalidModelfile),
    ],
)
def test_unusable_line_is_refused(text: str, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        read_modelfile(text)


def test_texts_are_taken_and_the_last_of_each_counts() -> None:
    asked = read_modelfile(
        "FROM foo\nSYSTEM a\nSYSTEM b\nTEMPLATE c\nTEMPLATE d\nRENDERER r\nPARSER p\n"
        "REQUIRES 0.14.0"
    )
    texts = (asked.system, asked.template, asked.renderer, asked.parser, asked.requires)
    assert texts == ("b", "d", "r", "p", "0.14.0")


def test_licenses_and_messages_add_up() -> None:
    asked = read_modelfile(
        'FROM foo\nLICENSE a\nLICENSE ""\nLICENSE b\nMESSAGE user hi: you\nMESSAGE assistant ho'
    )
    assert asked.license == ("a", "b")
    assert asked.messages == (("user", "hi: you"), ("assistant", "ho"))


def test_parameters_have_their_types() -> None:
    assert parameters_of(
        "num_ctx 4096", "temperature 0.7", "top_p 1", "use_mmap F", "stop a", 'stop " b"', "seed -1"
    ) == {
        "num_ctx": 4096,
        "temperature": 0.7,
        "top_p": 1,
        "use_mmap": False,
        "stop": ["a", " b"],
        "seed": -1,
    }


def test_last_value_of_a_parameter_counts() -> None:
    assert parameters_of("num_ctx 1", "num_ctx 2") == {"num_ctx": 2}


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_every_spelling_of_true_is_true(text: str) -> None:
    assert parameters_of(f"use_mmap {text}") == {"use_mmap": True}


@pytest.mark.parametrize("name", ["mirostat", "low_vram", "tfs_z", "penalize_newline", "num_gqa"])
def test_parameter_of_former_times_is_left_out(name: str) -> None:
    assert parameters_of(f"{name} 1") == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nope 1", "unknown parameter 'nope'"),
        ("Num_ctx 1", "unknown parameter 'Num_ctx'"),
        ("num_ctx x", "invalid int value [x]"),
        ("num_ctx 1.5", "invalid int value [1.5]"),
        ("num_ctx 99999999999999999999", "invalid int value [99999999999999999999]"),
        ("num_ctx 9223372036854775808", "invalid int value [9223372036854775808]"),
        ('num_ctx ""', "invalid int value []"),
        ("temperature x", "invalid float value [x]"),
        ("temperature 1_0", "invalid float value [1_0]"),
        ("temperature nan", "invalid float value [nan]"),
        ("temperature 1e39", "invalid float value [1e39]"),
        ("temperature 1e9999", "invalid float value [1e9999]"),
        ("use_mmap yes", "invalid bool value [yes]"),
    ],
)
def test_unusable_parameter_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidModelfile) as refusal:
        parameters_of(line)
    assert refusal.value.message == message


def test_request_goes_over_a_modelfile() -> None:
    asked = CreateRequest(name="mine", system="new", parameters={})
    merged = asked.over(read_modelfile("FROM foo\nSYSTEM old\nTEMPLATE t\nPARAMETER seed 1"))
    assert (merged.name, merged.base_name) == ("mine", "foo")
    assert (merged.system, merged.template, merged.parameters) == ("new", "t", {"seed": 1})
