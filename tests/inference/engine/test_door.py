"""The door of a node on the network: who gets in, and what strangers may hold."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inference.client import EngineClient
from inference.engine import door as door_module
from inference.engine.certificate import fingerprint_of, own_certificate
from inference.errors import EngineUnavailable
from inference.frames import encode
from inference.messages import PROTOCOL_VERSION, Hello, Ping, Wire
from tests.inference.engine.far_node import SECRET, House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.close()


async def ends(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(30):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_who_knows_the_secret_is_served(house: House) -> None:
    client = EngineClient(house.where)
    assert (await client.get_memory()).node == "far"
    assert client.connection is not None
    assert client.connection.report is not None
    client.close()


async def test_the_wrong_secret_gets_no_answer(house: House) -> None:
    with pytest.raises(EngineUnavailable):
        await EngineClient(replace(house.where, secret="6" * 64)).connect()
    assert house.guests == 0


async def test_no_secret_opens_a_node_that_has_none_yet(house: House) -> None:
    house.door.secret = ""
    with pytest.raises(EngineUnavailable):
        await EngineClient(replace(house.where, secret="")).connect()
    assert house.guests == 0


async def test_another_machine_at_its_address_is_told_no_secret(
    house: House, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    heard: list[Wire] = []

    async def note(_reader: object, _writer: object, first: Sequence[Wire]) -> None:
        heard.extend(first)

    other.door._guest = note
    with pytest.raises(EngineUnavailable):
        await EngineClient(replace(house.where, port=other.port)).connect()
    assert heard == []
    await other.door.close()


async def test_a_node_that_takes_anothers_name_is_not_heard(house: House) -> None:
    client = EngineClient(replace(house.where, name="gpu2"))
    with pytest.raises(EngineUnavailable):
        await client.connect()
    assert client.connection is None


@pytest.mark.parametrize("host", ["169.254.169.254", "168.63.129.16", "fe80::1", "0.0.0.0"])  # noqa: S104 - not bound
async def test_no_address_that_a_node_tells_leads_to_secrets(
    house: House, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is told as such or as a name that has it by then."""
    dialled: list[object] = []

    async def connect(*where: object, **_options: object) -> None:
        dialled.append(where)
        raise ConnectionRefusedError

    async def resolve(_host: str, _port: int) -> list[str]:
        return [host]

    monkeypatch.setattr("asyncio.open_connection", connect)
    monkeypatch.setattr("inference.dialling.resolve_host", resolve)
    for told in (host, "gpu1.example"):
        with pytest.raises(EngineUnavailable):
            await EngineClient(replace(house.where, host=told)).connect()
    assert dialled == []


async def test_a_node_is_dialled_by_its_name(house: House) -> None:
    client = EngineClient(replace(house.where, host="localhost"))
    assert (await client.get_memory()).node == "far"
    client.close()


async def test_a_giant_frame_is_cut_off_before_it_is_read(house: House) -> None:
    reader, writer = await house.stranger()
    writer.write(struct.pack(">I", 200 * 1024 * 1024))
    assert await ends(reader)
    writer.close()
    assert house.guests == 0


async def test_anything_but_hello_is_refused(house: House) -> None:
    reader, writer = await house.stranger()
    writer.write(encode(Ping()))
    assert await ends(reader)
    writer.close()


async def test_nothing_goes_along_with_the_greeting(house: House) -> None:
    reader, writer = await house.stranger()
    hello = encode(Hello(protocol=PROTOCOL_VERSION, client="x", secret=SECRET))
    writer.write(hello + hello)
    assert await ends(reader)
    writer.close()
    assert house.guests == 0


async def test_plain_text_is_refused(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(encode(Hello(protocol=PROTOCOL_VERSION, client="x", secret=SECRET)))
    async with asyncio.timeout(30):
        told = await reader.read()
    assert b"far" not in told  # a TLS alert at most
    writer.close()
    assert house.guests == 0


async def test_what_was_overheard_opens_nothing(house: House) -> None:
    """All bytes that a web process has sent, sent again."""
    sent = bytearray()
    relay_gone = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", house.port)

        async def forth() -> None:
            while data := await reader.read(4096):
                sent.extend(data)
                back_writer.write(data)
            back_writer.close()

        async def back() -> None:
            while data := await back_reader.read(4096):
                writer.write(data)
            writer.close()

        await asyncio.gather(forth(), back(), return_exceptions=True)
        relay_gone.set()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    client = EngineClient(replace(house.where, port=server.sockets[0].getsockname()[1]))
    await client.connect()
    client.close()
    async with asyncio.timeout(30):
        await relay_gone.wait()
    server.close()
    assert house.guests == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(bytes(sent))
    async with asyncio.timeout(30):
        await reader.read()
    writer.close()
    assert house.guests == 1


async def test_web_process_whose_machine_is_gone_is_given_up_by_the_kernel(house: House) -> None:
    """What its loss looks like cannot be made here; that somebody looks can be asked."""
    client = EngineClient(house.where)
    await client.connect()
    guest = house.writers[0].get_extra_info("socket")

    def told(option: int) -> int:
        return int(guest.getsockopt(socket.IPPROTO_TCP, option))

    assert guest.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    asked_s = told(socket.TCP_KEEPCNT) * told(socket.TCP_KEEPINTVL)
    assert told(socket.TCP_KEEPIDLE) + asked_s <= 30
    assert 0 < told(socket.TCP_USER_TIMEOUT) <= 30_000
    client.close()


async def test_strangers_have_little_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "GREETING_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    assert await ends(reader)
    writer.close()


async def test_strangers_have_few_places(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "MOST_STRANGERS", 3)
    monkeypatch.setattr(door_module, "GREETING_S", 3600.0)
    silent = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(3)]
    await asyncio.sleep(0.3)
    with pytest.raises(EngineUnavailable):
        await EngineClient(house.where).connect()
    for one in silent:
        one.close()
    client = EngineClient(house.where)
    async with asyncio.timeout(60):
        while client.connection is None:
            try:
                await client.connect()
            except EngineUnavailable:
                await asyncio.sleep(0.2)
    client.close()


async def test_one_address_alone_keeps_nobody_out(house: House) -> None:
    silent = [
        await asyncio.open_connection("127.0.0.1", house.port, local_addr=("127.0.0.2", 0))
        for _ in range(door_module.MOST_STRANGERS)
    ]
    client = EngineClient(house.where)
    assert (await client.get_memory()).node == "far"
    client.close()
    for _reader, writer in silent:
        writer.close()


def test_key_and_certificate_are_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = own_certificate(tmp_path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert own_certificate(tmp_path).read_bytes() == before
    assert fingerprint_of(path) == fingerprint_of(path)
