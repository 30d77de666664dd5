"""The measuring client, against a socket that sends what it is told."""

import asyncio

import pytest

from bench.chat import Answer, Question, Target, ask

_QUESTION = Question(({"role": "user", "content": "Hello"},), 4)
_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'


def _event(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode()


def _chunked(*bodies: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(body), body) for body in bodies)


async def _ask(response: bytes, pieces_wanted: int | None = None) -> Answer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    answer = Answer()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        target = Target(port=port, model="m")
        await ask(target, _QUESTION, answer, pieces_wanted=pieces_wanted)
    return answer


async def test_pieces_and_usage_are_read_across_chunk_borders() -> None:
    text = _event("Hel") + _event("lo") + _USAGE + b"data: [DONE]\n\n"

    answer = await _ask(_HEAD + _chunked(text[:20], text[20:90], text[90:]) + b"0\r\n\r\n")

    assert (answer.pieces, answer.completion_tokens, answer.failure) == (["Hel", "lo"], 2, "")


async def test_chunks_without_text_are_not_pieces() -> None:
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n'

    answer = await _ask(_HEAD + _chunked(role, _event("a")) + b"0\r\n\r\n")

    assert answer.pieces == ["a"]


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (_HEAD + _chunked(_event("a")), "cut"),
        (_HEAD + _chunked(b'data: {"error":{"message":"broken"}}\n\n'), "broken"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "503 busy"),
        (b"nonsense\r\n\r\n", "not HTTP"),
    ],
)
async def test_whatever_is_no_good_end_is_a_failure(response: bytes, failure: str) -> None:
    assert failure in (await _ask(response)).failure


async def test_leaving_early_is_no_failure() -> None:
    answer = await _ask(_HEAD + _chunked(_event("a"), _event("b"), _event("c")), pieces_wanted=2)

    assert (answer.is_complete, answer.failure) == (True, "")
