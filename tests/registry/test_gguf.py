"""GGUF metadata: foreign files are read right, hostile ones are refused in words."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import GgufError
from registry.gguf import format_parameter_count, read_gguf
from tests.gguf_files import VOCAB_SIZE, write_tiny_model

U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 4, 5, 6, 7, 8, 9, 10, 12
HUGE = 2**64 - 1


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def pair(key: str | bytes, value_type: int, value: bytes) -> bytes:
    return string(key) + u32(value_type) + value


LLAMA = pair("general.architecture", STRING, string("llama"))


def tensor(
    name: str | bytes = "t",
    shape: tuple[int, ...] = (32,),
    type_id: int = 0,
    offset: int = 0,
) -> bytes:
    dimensions = b"".join(u64(size) for size in shape)
    return string(name) + u32(len(shape)) + dimensions + u32(type_id) + u64(offset)


def model(
    *pairs: bytes,
    tensors: tuple[bytes, ...] = (),
    version: int = 3,
    keys: int | None = None,
    tensor_count: int | None = None,
    data: bytes = b"\0" * 4096,
) -> bytes:
    key_count = len(pairs) if keys is None else keys
    count = len(tensors) if tensor_count is None else tensor_count
    return b"".join(
        (b"GGUF", u32(version), u64(count), u64(key_count), *pairs, *tensors, data),
    )


HOSTILE = {
    "empty file": b"",
    "one byte": b"G",
    "another format": b"PK\3\4" + b"\0" * 100,
    "old ggml": b"lmgg" + b"\0" * 100,
    "magic only": b"GGUF",
    "half a version": b"GGUF\3\0",
    "version 0": model(LLAMA, version=0),
    "version 1": model(LLAMA, version=1),
    "version 4": model(LLAMA, version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "no counts": b"GGUF" + u32(3),
    "counts past the end": model(keys=5, data=b""),
    "huge key count": model(LLAMA, keys=HUGE),
    "huge tensor count": model(LLAMA, tensor_count=HUGE),
    "many keys announced": model(LLAMA, keys=9_999, data=b""),
    "no architecture": model(),
    "architecture is a number": model(pair("general.architecture", U32, u32(1))),
    "architecture is a path": model(pair("general.architecture", STRING, string("../x"))),
    "architecture is empty": model(pair("general.architecture", STRING, string(""))),
    "key twice": model(LLAMA, LLAMA),
    "key is empty": model(LLAMA, pair("", U32, u32(1))),
    "key holds NUL": model(LLAMA, pair("a\0b", U32, u32(1))),
    "key is not UTF-8": model(LLAMA, pair(b"\xff\xfe", U32, u32(1))),
    "key length huge": model(LLAMA, u64(HUGE)),
    "key longer than the file": model(LLAMA, u64(1000), data=b""),
    "key longer than allowed": model(LLAMA, pair("k" * 2000, U32, u32(1))),
    "string length huge": model(LLAMA, pair("a", STRING, u64(HUGE))),
    "string past the end": model(LLAMA, pair("a", STRING, u64(5000))),
    "value type unknown": model(LLAMA, pair("a", 13, u32(1))),
    "value type huge": model(LLAMA, pair("a", 2**32 - 1, u32(1))),
    "value missing": model(LLAMA, pair("a", U64, b""), data=b""),
    "truth value 7": model(LLAMA, pair("a", BOOL, b"\7")),
    "array of arrays": model(LLAMA, pair("a", ARRAY, u32(ARRAY) + u64(1))),
    "array type unknown": model(LLAMA, pair("a", ARRAY, u32(99) + u64(1))),
    "array count huge": model(LLAMA, pair("a", ARRAY, u32(U32) + u64(HUGE))),
    "array past the end": model(LLAMA, pair("a", ARRAY, u32(U64) + u64(1_000_000))),
    "array of strings past the end": model(LLAMA, pair("a", ARRAY, u32(STRING) + u64(1_000_000))),
    "array's string past the end": model(
        LLAMA, pair("a", ARRAY, u32(STRING) + u64(1) + u64(2**63))
    ),
    "arrays too long together": model(
        LLAMA, *(pair(f"a{i}", ARRAY, u32(0) + u64(6_000_000) + bytes(6_000_000)) for i in range(3))
    ),
    "alignment 0": model(LLAMA, pair("general.alignment", U32, u32(0))),
    "alignment 24": model(LLAMA, pair("general.alignment", U32, u32(24))),
    "alignment huge": model(LLAMA, pair("general.alignment", U32, u32(2**31))),
    "alignment a text": model(LLAMA, pair("general.alignment", STRING, string("32"))),
    "tensor entry missing": model(LLAMA, tensor_count=1, data=b""),
    "tensor name empty": model(LLAMA, tensors=(tensor(""),)),
    "tensor name too long": model(LLAMA, tensors=(tensor("n" * 65),)),
    "tensor name holds NUL": model(LLAMA, tensors=(tensor("a\0"),)),
    "tensor twice": model(LLAMA, tensors=(tensor(), tensor())),
    "tensor without dimensions": model(LLAMA, tensors=(tensor(shape=()),)),
    "tensor of five dimensions": model(LLAMA, tensors=(tensor(shape=(1, 1, 1, 1, 1)),)),
    "tensor with an empty dimension": model(LLAMA, tensors=(tensor(shape=(32, 0)),)),
    "tensor whose size overflows": model(LLAMA, tensors=(tensor(shape=(2**32, 2**32)),)),
    "tensor of 2^256 elements": model(LLAMA, tensors=(tensor(shape=(HUGE,) * 4),)),
    "tensor type unknown": model(LLAMA, tensors=(tensor(type_id=99),)),
    "tensor type removed": model(LLAMA, tensors=(tensor(type_id=4),)),
    "tensor row is no whole block": model(LLAMA, tensors=(tensor(shape=(31,), type_id=2),)),
    "tensor not aligned": model(LLAMA, tensors=(tensor(offset=1),)),
    "tensor past the end": model(LLAMA, tensors=(tensor(offset=8192),)),
    "tensor offset huge": model(LLAMA, tensors=(tensor(offset=HUGE - 31),)),
    "tensor larger than the file": model(LLAMA, tensors=(tensor(shape=(4096,)),)),
    "tensor data missing": model(LLAMA, tensors=(tensor(),), data=b""),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def real_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_tiny_model(path, chat_template="{{ messages }}").read_bytes()


@pytest.mark.parametrize("is_verbose", [False, True])
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_file_is_refused_in_words(
    write: Callable[[bytes], Path], what: str, is_verbose: bool
) -> None:
    with pytest.raises(GgufError) as refusal:
        read_gguf(write(HOSTILE[what]), with_arrays=is_verbose)
    assert "GGUF" in refusal.value.message or "tensor" in refusal.value.message


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 12_000), value=st.binary(min_size=1, max_size=8))
def test_any_change_is_read_or_refused(
    tmp_path: Path, real_bytes: bytes, position: int, value: bytes
) -> None:
    changed = real_bytes[:position] + value + real_bytes[position + len(value) :]
    path = tmp_path / "changed.gguf"
    path.write_bytes(changed)
    try:
        json.dumps(read_gguf(path).to_json(), allow_nan=False)
    except GgufError:
        return


@pytest.mark.parametrize("length", [*range(4, 200, 7), 1000, 5000, 10_000, 100_000])
def test_cut_file_is_refused(
    write: Callable[[bytes], Path], real_bytes: bytes, length: int
) -> None:
    with pytest.raises(GgufError):
        read_gguf(write(real_bytes[:length]))


def test_smallest_model_is_read(write: Callable[[bytes], Path]) -> None:
    found = read_gguf(write(model(LLAMA, tensors=(tensor(shape=(32, 2)),))))
    assert (found.architecture, found.parameter_count) == ("llama", 64)


def test_version_2_is_read(write: Callable[[bytes], Path]) -> None:
    assert read_gguf(write(model(LLAMA, version=2))).version == 2


def test_every_value_type_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    values: dict[str, Any] = {
        "uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 4_000_000_000,
        "int32": -2_000_000_000, "float32": 0.1, "bool": True, "string": "naïve",
        "uint64": 2**64 - 1, "int64": -(2**62), "float64": 0.1,
    }  # fmt: skip
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    metadata = read_gguf(tmp_path / "m.gguf").metadata
    assert {key: metadata[key] for key in values} == values


def test_arrays_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    assert read_gguf(path).metadata["tokenizer.ggml.tokens"] is None
    verbose = read_gguf(path, with_arrays=True).metadata
    assert len(verbose["tokenizer.ggml.tokens"]) == VOCAB_SIZE
    assert verbose["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]
    assert verbose["tokenizer.ggml.scores"][10] == -1000.0


def test_empty_arrays_stay_empty(write: Callable[[bytes], Path]) -> None:
    data = model(
        LLAMA,
        pair("numbers", ARRAY, u32(U32) + u64(0)),
        pair("texts", ARRAY, u32(STRING) + u64(0)),
    )
    metadata = read_gguf(write(data)).metadata
    assert (metadata["numbers"], metadata["texts"]) == ([], [])


def test_float32_is_told_in_its_shortest_form(write: Callable[[bytes], Path]) -> None:
    data = model(LLAMA, pair("eps", F32, struct.pack("<f", 1e-5)))
    assert read_gguf(write(data)).metadata["eps"] == 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks_become_null(write: Callable[[bytes], Path], value: float) -> None:
    data = model(
        LLAMA, pair("a", F32, struct.pack("<f", value)), pair("b", F64, struct.pack("<d", value))
    )
    metadata = read_gguf(write(data)).metadata
    assert (metadata["a"], metadata["b"]) == (None, None)


def test_text_that_databases_refuse_is_mended(write: Callable[[bytes], Path]) -> None:
    data = model(LLAMA, pair("a", STRING, string(b"x\0y\xff")))
    assert read_gguf(write(data)).metadata["a"] == "x\ufffdy\ufffd"


def test_counts_of_another_type_are_unknown(write: Callable[[bytes], Path]) -> None:
    data = model(
        LLAMA,
        pair("llama.context_length", STRING, string("8192")),
        pair("llama.embedding_length", I32, struct.pack("<i", -1)),
        pair("general.file_type", U32, u32(77)),
    )
    found = read_gguf(write(data))
    assert (found.context_length, found.embedding_length) == (None, None)
    assert found.quantization_level == "unknown"


def test_what_is_kept_is_plain_json(tmp_path: Path) -> None:
    kept = read_gguf(write_tiny_model(tmp_path / "m.gguf")).to_json()
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["architecture"] == "llama"
    assert kept["quantization_level"] == "F32"
    assert (kept["context_length"], kept["embedding_length"]) == (512, 64)
    assert kept["tensors"][0] == {
        "name": "token_embd.weight",
        "type": "F32",
        "shape": [64, VOCAB_SIZE],
    }


@pytest.mark.parametrize("name", [kind.name for kind in gguf.GGMLQuantizationType])
def test_every_tensor_type_of_the_gguf_package_is_known(tmp_path: Path, name: str) -> None:
    kind = gguf.GGMLQuantizationType[name]
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("t", np.zeros((2, block_bytes), dtype=np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_gguf(tmp_path / "m.gguf").tensors[0].type == name


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (9_400, "9K"),
        (134_515_008, "134.52M"),
        (22_000_000, "22M"),
        (7_241_732_096, "7.2B"),
        (70_000_000_000, "70B"),
        (671_026_419_200, "671.0B"),
    ],
)
def test_parameter_count_is_printed_as_ollama_does(count: int, text: str) -> None:
    assert format_parameter_count(count) == text
