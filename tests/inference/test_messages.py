"""The codec: every type survives the wire, in whatever pieces the bytes come."""

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import frames, messages
from inference.engine.runner_messages import FromRunner, ToRunner
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import FromNode, Ping, ToNode, Wire

UNIONS = [ToNode, FromNode, ToRunner, FromRunner]

EXAMPLES: dict[Any, Any] = {
    str: "text é",
    int: 7,
    float: 1.5,
    bool: True,
    bytes: b"\x00\xff",
    messages.DoneReason: messages.DoneReason.LENGTH,
    messages.Priority: messages.Priority.BATCH,
    messages.FailureCode: messages.FailureCode.CANCELLED,
}


def _example(annotation: Any) -> Any:
    if annotation in EXAMPLES:
        return EXAMPLES[annotation]
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        value = _example(arguments[0])
        is_run = isinstance(value, tuple)
        return value * (arguments[1].min_length or 1) if is_run else value
    if origin is tuple:
        is_run = len(arguments) == 2 and arguments[1] is Ellipsis
        return tuple(map(_example, arguments[:1] if is_run else arguments))
    if origin is dict:
        return {"key": [1, None, "x"] if arguments[1] is Any else _example(arguments[1])}
    if arguments:
        return _example(arguments[0])
    hints = typing.get_type_hints(annotation, include_extras=True)
    return annotation(**{name: _example(hint) for name, hint in hints.items()})


def _crossing_types() -> list[tuple[Any, type[Wire]]]:
    return [(union, kind) for union in UNIONS for kind in typing.get_args(union)]


@pytest.mark.parametrize(("union", "kind"), _crossing_types())
def test_every_message_survives_the_wire(union: Any, kind: type[Wire]) -> None:
    message = _example(kind)
    assert FrameDecoder[Wire](union).feed(encode(message)) == [message]


def test_every_wire_struct_belongs_to_a_direction() -> None:
    crossing = {kind for _, kind in _crossing_types()} | set(typing.get_args(messages.Event))
    assert crossing == set(Wire.__subclasses__())


@given(
    cuts=st.lists(st.integers(1, 50), min_size=1), texts=st.lists(st.text(max_size=30), max_size=9)
)
def test_frames_come_out_however_the_stream_is_cut(cuts: list[int], texts: list[str]) -> None:
    wanted = [messages.Cancel(request_id=text) for text in texts]
    data = b"".join(map(encode, wanted))
    decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
    found: list[Wire] = []
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += decoder.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert found == wanted


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",  # a length over the limit
        b"\x00\x00\x00\x01\xc1",  # no msgpack
        encode(messages.Pong()),  # the other direction's message
        b"\x00\x00\x00\x00",  # an empty body
    ],
)
def test_what_is_no_frame_for_us_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder[Wire](ToNode).feed(data)


def test_a_value_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10)
    with pytest.raises(ProtocolError):
        encode(messages.Cancel(request_id="x" * 20))


def test_unknown_fields_of_a_newer_peer_are_ignored() -> None:
    body = msgspec.msgpack.encode({"type": "Ping", "later": 1})
    frame = len(body).to_bytes(4, "big") + body
    assert FrameDecoder[Wire](ToNode).feed(frame) == [Ping()]
