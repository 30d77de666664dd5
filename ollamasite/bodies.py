"""Decoded JSON → a typed request body, as leniently as Go's decoder and in its words.

Every API route describes its body as a `msgspec.Struct` whose fields all have defaults and hands
it to `decode` (contract/ollama.md 1.0, 2.2): unknown keys are ignored, keys are matched whatever
their case, null leaves the default. Values of `dict` and `Any` fields (options, schemas, tool
arguments) are passed on untouched. Knows no route and no model; the JSON text itself is read by
`ollamasite.http.read_json`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from ollamasite.errors import InvalidBody

T = TypeVar("T", bound=msgspec.Struct)

_DEFAULT_PACKAGE: Final = "api"
_MAX_GO_INT: Final = 2**63 - 1
_ANYTHING: Final = (inspect.AnyType, inspect.RawType)
_SEQUENCES: Final = (inspect.ListType, inspect.VarTupleType)


def decode(data: object, cls: type[T], go_name: str) -> T:
    """Return `data` as a `cls`. Raises InvalidBody with the text of Go's decoder.

    `go_name` is what Go calls the struct, with its package if that is not `api`:
    `ShowRequest`, `openai.ChatCompletionRequest`. A nested struct that Go decodes on its own
    names itself in a class variable `go_name`; fields whose Go type has a name of its own are in
    `go_types`.
    """
    package, _, struct = go_name.rpartition(".")
    place = _Place(package=package or _DEFAULT_PACKAGE, struct=struct)
    try:
        prepared = _prepare_struct({} if data is None else data, _struct_type(cls), place)
        return msgspec.convert(prepared, cls)
    except msgspec.ValidationError as error:
        raise InvalidBody(str(error)) from error
    except RecursionError as error:
        raise InvalidBody("exceeded max depth") from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a body the walk is, as Go would name it."""

    package: str
    struct: str
    path: tuple[str, ...] = ()
    go_type: str = ""  # empty: as the struct's annotation says
    field_name: str = ""  # of the body itself, whatever struct the place is in by now

    def field(self, name: str, cls: type) -> "_Place":
        go_type = getattr(cls, "go_types", {}).get(name, "")
        path = (*self.path, name)
        return _Place(self.package, self.struct, path, go_type, self.field_name or name)

    @property
    def item(self) -> "_Place":
        """Any item of the list that is here."""
        if not self.go_type:
            return self
        is_list = self.go_type.startswith("[]")
        return replace(self, go_type=self.go_type.removeprefix("[]") if is_list else "")

    def inside(self, cls: type) -> "_Place":
        own_name = getattr(cls, "go_name", None)
        if not own_name:
            return self
        return _Place(self.package, own_name, field_name=self.field_name)

    def refusal(self, value: object, expected: inspect.Type) -> InvalidBody:
        field = f"struct field {self.struct}.{'.'.join(self.path)}" if self.path else "value"
        root = f"{self.package}.{self.struct}"
        named = self.go_type or _go_type(expected, self.package)
        go_type = named if self.path else root
        kind = _json_kind(value)
        if kind == "number" and isinstance(expected, inspect.IntType):
            kind = f"number {value!r}"
        message = f"json: cannot unmarshal {kind} into Go {field} of type {go_type}"
        return InvalidBody(message, param=self.field_name)


def _prepare(value: object, expected: inspect.Type, place: _Place) -> object:
    if isinstance(expected, inspect.UnionType):
        expected = _member_for(value, expected)
    if isinstance(expected, _ANYTHING):
        return value
    if value is None:
        return _zero(expected)
    if isinstance(expected, inspect.StructType):
        return _prepare_struct(value, expected, place.inside(expected.cls))
    if not _fits(value, expected):
        raise place.refusal(value, expected)
    if isinstance(expected, _SEQUENCES) and isinstance(value, list):
        return [_prepare(item, expected.item_type, place.item) for item in value]
    if isinstance(expected, inspect.DictType) and isinstance(value, dict):
        return {key: _prepare(item, expected.value_type, place.item) for key, item in value.items()}
    return value


def _prepare_struct(value: object, expected: inspect.StructType, place: _Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.refusal(value, expected)
    fields = _fields_by_key(expected.cls)
    prepared: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key) or fields.get(key.lower())
        if field is not None and item is not None:
            name = field.encode_name
            prepared[name] = _prepare(item, field.type, place.field(name, expected.cls))
    return prepared


@cache
def _struct_type(cls: type) -> inspect.StructType:
    info = inspect.type_info(cls)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{cls!r} is not a msgspec.Struct")
    return info


@cache
def _fields_by_key(cls: type) -> dict[str, inspect.Field]:
    fields = _struct_type(cls).fields
    by_key = {field.encode_name.lower(): field for field in fields}
    return by_key | {field.encode_name: field for field in fields}


def _member_for(value: object, union: inspect.UnionType) -> inspect.Type:
    members = [member for member in union.types if not isinstance(member, inspect.NoneType)]
    return next((member for member in members if _fits(value, member)), members[0])


def _fits(value: object, expected: inspect.Type) -> bool:
    for types, is_fit in _FITS:
        if isinstance(expected, types):
            return is_fit(value)
    return True  # enums and literals: msgspec judges them


def _is_go_int(value: object) -> bool:
    return type(value) is int and -_MAX_GO_INT - 1 <= value <= _MAX_GO_INT


_FITS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], bool]], ...]] = (
    (inspect.StrType, lambda value: isinstance(value, str)),
    (inspect.BoolType, lambda value: isinstance(value, bool)),
    (inspect.IntType, _is_go_int),
    (inspect.FloatType, lambda value: type(value) in {int, float}),
    (_SEQUENCES, lambda value: isinstance(value, list)),
    ((inspect.DictType, inspect.StructType), lambda value: isinstance(value, dict)),
)


def _zero(expected: inspect.Type) -> object:
    for types, zero in _ZEROS:
        if isinstance(expected, types):
            return zero()
    return None


_ZEROS: Final[tuple[tuple[type | tuple[type, ...], Callable[[], Any]], ...]] = (
    (inspect.StrType, str),
    (inspect.BoolType, bool),
    (inspect.IntType, int),
    (inspect.FloatType, float),
    (_SEQUENCES, list),
    ((inspect.DictType, inspect.StructType), dict),
)


def _go_type(expected: inspect.Type, package: str) -> str:
    if isinstance(expected, inspect.UnionType):
        return _go_type(_member_for(None, expected), package)
    if isinstance(expected, _SEQUENCES):
        return f"[]{_go_type(expected.item_type, package)}"
    if isinstance(expected, inspect.DictType):
        return f"map[string]{_go_type(expected.value_type, package)}"
    if isinstance(expected, inspect.StructType):
        return f"{package}.{expected.cls.__name__}"
    return _GO_SCALARS.get(type(expected), "interface {}")


_GO_SCALARS: Final = {
    inspect.StrType: "string",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float64",
}


def _json_kind(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"
