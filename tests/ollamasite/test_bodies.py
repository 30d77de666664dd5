"""Bodies are decoded as Go would, and refused in Go's words (contract 1.0, 2.2)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamasite.bodies import decode
from ollamasite.errors import InvalidBody


class Call(msgspec.Struct):
    """A nested struct with a free-form field."""

    name: str = ""
    arguments: dict[str, Any] = {}


class Turn(msgspec.Struct):
    """A nested struct."""

    role: str = ""
    images: list[str] = []
    calls: list[Call] = []


class Alias(msgspec.Struct):
    """A nested struct that Go decodes on its own."""

    go_name: ClassVar[str] = "Alias"
    content: str = ""


class Request(msgspec.Struct):
    """A body with a field of every kind."""

    go_types: ClassVar[Mapping[str, str]] = {"pictures": "[]api.ImageData", "tools": "api.Tools"}
    model: str = ""
    stream: bool = True
    count: int = 0
    ratio: float = 0.0
    stop: list[str] = []
    options: dict[str, Any] = {}
    format: Any = None
    think: bool | str | None = None
    seed: int | None = None
    messages: list[Turn] = []
    pictures: list[str] = []
    tools: list[Call] = []
    own: Alias = msgspec.field(default_factory=Alias)
    top_logprobs: int = msgspec.field(default=0, name="topLogprobs")


def read(data: Any) -> Request:
    return decode(data, Request, "TestRequest")


def test_absent_keys_keep_their_defaults() -> None:
    assert read({}) == Request()


def test_null_body_is_an_empty_object() -> None:
    assert read(None) == Request()


def test_null_values_keep_the_default() -> None:
    assert read({"stream": None, "model": None, "messages": None}) == Request()


def test_unknown_keys_are_ignored() -> None:
    assert read({"nonsense": {"a": 1}, "model": "m"}).model == "m"


@pytest.mark.parametrize("key", ["model", "Model", "MODEL", "mOdEl"])
def test_keys_match_whatever_their_case(key: str) -> None:
    assert read({key: "m"}).model == "m"


def test_of_several_spellings_of_a_key_the_last_counts() -> None:
    assert read({"model": "a", "MODEL": "b", "Model": "c"}).model == "c"


def test_encoded_field_name_is_matched_whatever_its_case() -> None:
    assert read({"TOPLOGPROBS": 3}).top_logprobs == 3


def test_nested_keys_match_whatever_their_case() -> None:
    body = {"Messages": [{"ROLE": "user", "Calls": [{"Name": "f"}]}]}
    assert read(body).messages == [Turn(role="user", calls=[Call(name="f")])]


def test_keys_inside_dictionaries_keep_their_case() -> None:
    body = {
        "options": {"Temperature": None, "stop": [1]},
        "messages": [{"calls": [{"arguments": {"Name": None}}]}],
    }
    request = read(body)
    assert request.options == {"Temperature": None, "stop": [1]}
    assert request.messages[0].calls[0].arguments == {"Name": None}


def test_values_of_any_kind_are_passed_on_untouched() -> None:
    assert read({"format": {"Type": None}}).format == {"Type": None}


def test_null_in_a_list_is_the_zero_value() -> None:
    request = read({"stop": [None, "a"], "messages": [None]})
    assert (request.stop, request.messages) == (["", "a"], [Turn()])


def test_whole_number_fits_a_float_field() -> None:
    assert read({"ratio": 2}).ratio == 2.0


@pytest.mark.parametrize("value", [True, "high"])
def test_union_takes_each_of_its_kinds(value: bool | str) -> None:
    assert read({"think": value}).think == value


REFUSALS = [
    ({"model": 3}, "number", "TestRequest.model", "string"),
    ({"Model": True}, "bool", "TestRequest.model", "string"),
    ({"model": []}, "array", "TestRequest.model", "string"),
    ({"model": {}}, "object", "TestRequest.model", "string"),
    ({"stream": "yes"}, "string", "TestRequest.stream", "bool"),
    ({"stream": 1}, "number", "TestRequest.stream", "bool"),
    ({"count": True}, "bool", "TestRequest.count", "int"),
    ({"count": 1.5}, "number 1.5", "TestRequest.count", "int"),
    ({"count": 2**63}, "number 9223372036854775808", "TestRequest.count", "int"),
    ({"seed": "x"}, "string", "TestRequest.seed", "int"),
    ({"ratio": False}, "bool", "TestRequest.ratio", "float64"),
    ({"stop": "x"}, "string", "TestRequest.stop", "[]string"),
    ({"stop": ["x", 1]}, "number", "TestRequest.stop", "string"),
    ({"options": []}, "array", "TestRequest.options", "map[string]interface {}"),
    ({"messages": {}}, "object", "TestRequest.messages", "[]api.Turn"),
    ({"messages": ["hi"]}, "string", "TestRequest.messages", "api.Turn"),
    ({"messages": [{"role": []}]}, "array", "TestRequest.messages.role", "string"),
    ({"pictures": "x"}, "string", "TestRequest.pictures", "[]api.ImageData"),
    ({"pictures": ["x", {}]}, "object", "TestRequest.pictures", "api.ImageData"),
    ({"tools": {}}, "object", "TestRequest.tools", "api.Tools"),
    ({"tools": [3]}, "number", "TestRequest.tools", "api.Call"),
    ({"own": {"content": 1}}, "number", "Alias.content", "string"),
]


@pytest.mark.parametrize(("body", "kind", "field", "go_type"), REFUSALS)
def test_wrong_type_is_refused_in_gos_words(body: Any, kind: str, field: str, go_type: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        read(body)
    expected = f"json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}"
    assert refusal.value.message == expected
    assert refusal.value.param == next(iter(body)).lower()


@pytest.mark.parametrize(
    ("body", "kind"), [("x", "string"), ([], "array"), (3, "number"), (False, "bool")]
)
def test_body_that_is_no_object_is_refused(body: Any, kind: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        decode(body, Request, "openai.TestRequest")
    expected = f"json: cannot unmarshal {kind} into Go value of type openai.TestRequest"
    assert refusal.value.message == expected


def test_first_wrong_field_is_named() -> None:
    with pytest.raises(InvalidBody, match=r"field TestRequest\.count of"):
        read({"count": "x", "model": 3})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Request.__struct_fields__, "role", "calls"]), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_either_decoded_or_refused(data: Any) -> None:
    try:
        request = read(data)
    except InvalidBody:
        return
    assert isinstance(request, Request)
