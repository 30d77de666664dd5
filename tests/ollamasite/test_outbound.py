"""The way out: where requests may go, how much and how long, and what leaves with them."""

import asyncio
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import httpcore2
import pytest

from ollamasite.errors import OutboundFailed, OutboundRefused, OutboundTimedOut, OutboundTooLarge
from ollamasite.outbound import client as outbound
from ollamasite.outbound.addresses import find_addresses, is_inside, is_public, resolve_host
from ollamasite.outbound.client import Answer, Caps, OutboundClient
from ollamasite.outbound.hosts import AllowedHosts, HostEntry
from ollamasite.outbound.urls import parse_url
from tests.fakes.peer import Asked, Names, Peer, answer, head, peer, redirect

HERE = "127.0.0.1"


def client_of(
    *peers: Peer, others: Sequence[str] = (), names: Any = None, **caps: Any
) -> OutboundClient:
    """Return a client that may reach `peer.test` inside, at these servers' ports."""
    entries = [f"http://{host}:{p.port}" for p in peers for host in ("peer.test", "other.test")]
    hosts = AllowedHosts.parse([*entries, *others], private=["peer.test", "other.test"])
    known = {"peer.test": [HERE], "other.test": [HERE], "inside.test": [HERE]}
    return OutboundClient(hosts, Caps(**caps), resolve=names or Names(known))


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("entry", "url", "is_permitted"),
    [
        ("a.example", "https://a.example/x", True),
        ("A.Example", "https://a.EXAMPLE./x", True),
        ("a.example", "https://a.example:8443/x", False),
        ("a.example", "http://a.example/x", False),
        ("a.example", "https://b.a.example/x", False),
        ("a.example", "https://a.example.evil.test/x", False),
        ("a.example:8443", "https://a.example:8443/x", True),
        ("a.example:8443", "https://a.example/x", False),
        ("http://a.example", "http://a.example/x", True),
        ("http://a.example", "https://a.example/x", True),
        ("https://a.example", "http://a.example/x", False),
        ("[2001:db8::1]:444", "https://[2001:db8::1]:444/", True),
        ("*", "https://anything.example:8443/x", True),
        ("*", "http://anything.example/x", False),
        ("http://*", "http://anything.example/x", True),
    ],
)
def test_entry_permits_what_it_names(entry: str, url: str, is_permitted: bool) -> None:
    hosts = AllowedHosts.parse([entry])

    assert hosts.permit(*parse_url(url).origin) is is_permitted


@pytest.mark.parametrize("text", ["", "a b", "ftp://a", "a:0", "a:70000", "a/b", "*.a", "a@b", "-"])
def test_text_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        HostEntry.parse(text)


@pytest.mark.parametrize(
    ("entries", "private", "may"),
    [
        (["a.lan"], ["a.lan"], True),
        (["a.lan:5000"], ["A.LAN"], True),
        (["a.lan"], [], False),
        (["*"], ["a.lan"], False),
        (["*"], ["*"], False),
        (["a.lan"], ["*"], False),
    ],
)
def test_host_may_be_inside_only_where_both_lists_name_it(
    entries: list[str], private: list[str], may: bool
) -> None:
    assert AllowedHosts.parse(entries, private=private).permit_inside("a.lan") is may


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "//a.example/x", "/x", "https://", "https:///x"),
        *("ftp://a.example/", "file:///etc/passwd", "data:image/png;base64,AAAA", "gopher://a/"),
        *("https://good.test\\@evil.test/", "https:\\\\a.example/", "https://a.example\\.evil/"),
        *("https://user@a.example/", "https://user:word@a.example/", "https://@a:b@c.example/"),
        *("https://a example/", "https://a.example/x y", " https://a.example/", "https://a\n/"),
        *("https://a\u200b.example/", "https://a.example\u2028/", "https://a%2eexample/"),
        *("https://[fe80::1%25eth0]/", "https://[::1", "https://a:99999/", "https://a:0/"),
        *("https://@a.example/", "https://:@a.example/", "https://a.example:+443/"),
        *("https://a.example:٤٤٣/", "https://a.example:/", "https://a.example:4٤3/"),
        *("https://a.example:x/", "https://Ⓛocalhost/", "https://a/" + "x" * 9000),
    ],
)
def test_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefused):
        parse_url(url)


def test_url_is_read_once_into_what_is_sent() -> None:
    target = parse_url("HTTPS://Bücher.Example.:8443/ä?x=1#part")

    assert target.origin == ("https", "xn--bcher-kva.example", 8443)
    assert target.path == "/%C3%A4?x=1"
    assert target.authority == "xn--bcher-kva.example:8443"


# ---------------------------------------------------------------- addresses

INSIDE = (
    *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.8.8.8"),
    *("100.64.0.1", "::1", "fc00::1", "fd12:3456::1"),
)
NEVER = (
    *("169.254.169.254", "169.254.1.1", "0.1.2.3", "255.255.255.255", "240.0.0.1"),
    "0.0.0.0",  # noqa: S104 - nothing is bound
    *("224.0.0.1", "239.1.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.9"),
    *("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1", "ff02::1", "::", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "::127.0.0.1", "::8.8.8.8"),
    *("2002:7f00:1::", "2002:808:808::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::1", "2001:0:53aa:64c::1", "2001:db8::1", "::ffff:0:7f00:1"),
)


@pytest.mark.parametrize("text", [*INSIDE, *NEVER])
def test_address_inside_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", NEVER)
def test_metadata_and_mapped_addresses_are_out_of_reach_for_named_hosts_too(text: str) -> None:
    assert not is_inside(ip_address(text))


@pytest.mark.parametrize("text", INSIDE)
def test_address_inside_is_in_reach_of_a_host_named_for_it(text: str) -> None:
    assert is_inside(ip_address(text))


async def test_one_address_inside_spoils_the_whole_answer() -> None:
    names = Names({"a.example": ["8.8.8.8", "10.0.0.1"]})

    with pytest.raises(OutboundRefused):
        await find_addresses(names, "a.example", 443, may_be_inside=False)


async def test_slow_names_leave_the_threads_of_others_free(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def ask_slowly(*_args: Any, **_kwargs: Any) -> list[Any]:
        is_over.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", ask_slowly)
    asking = [asyncio.create_task(resolve_host("slow.test", 443)) for _ in range(64)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(threading.get_ident)
    finally:
        is_over.set()
        await asyncio.gather(*asking)


@pytest.mark.parametrize("found", [[], ["fe80::1%eth0%2"], ["no address"]])
async def test_name_without_a_usable_address_is_not_found(found: list[str]) -> None:
    with pytest.raises(OutboundFailed, match="was not found"):
        await find_addresses(Names({"a": found}), "a", 443, may_be_inside=True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::]"]
)
async def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    # The machine's own resolver: it is what knows these spellings.
    async with peer(answer(b"secret")) as inside:
        hosts = AllowedHosts.parse(["http://*"])
        async with OutboundClient(hosts) as client:
            with pytest.raises(OutboundFailed):
                await client.read(f"http://{host}:{inside.port}/")

    assert inside.asked == []


# ---------------------------------------------------------------- requests


async def test_host_that_is_not_there_is_named() -> None:
    async with peer(answer(b"")) as one:
        gone = one.url("/x")
    async with client_of(one) as client:
        with pytest.raises(OutboundFailed, match=f"no connection to http://peer.test:{one.port}$"):
            await client.read(gone)


async def test_host_without_tls_is_told_as_such() -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak_plainly, HERE, 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(Peer(port)) as client:
        with pytest.raises(OutboundFailed, match=f"peer.test:{port}: it does not speak TLS$"):
            await client.read(f"https://peer.test:{port}/")
    server.close()


async def test_allowed_host_is_asked_under_its_name() -> None:
    async with peer(answer(b"hello")) as one, client_of(one) as client:
        body = await client.read(one.url("/x?y=1"))

    (asked,) = one.asked
    assert body == b"hello"
    assert asked.path == "/x?y=1"
    assert asked.headers["host"] == f"peer.test:{one.port}"
    assert asked.headers["user-agent"].startswith("ollamasite/")
    assert asked.headers["accept-encoding"] == "identity"


async def test_tls_asks_for_the_host_by_its_name() -> None:
    greeting = bytearray()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(note, HERE, 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(Peer(port)) as client:
        with pytest.raises(OutboundFailed):
            await client.read(f"https://peer.test:{port}/")
    server.close()

    assert b"peer.test" in greeting


async def test_host_that_is_not_listed_is_refused_before_its_name_is_looked_up() -> None:
    names = Names({"inside.test": [HERE]})
    async with peer(answer()) as one, client_of(one, names=names) as client:
        with pytest.raises(OutboundRefused, match=r"inside\.test"):
            await client.read(one.url(host="inside.test"))

    assert names.asked == []


async def test_public_host_that_turns_out_to_be_inside_is_refused() -> None:
    async with peer(answer()) as one, client_of(one, others=["http://*"]) as client:
        with pytest.raises(OutboundRefused, match="not public"):
            await client.read(one.url(host="inside.test"))

    assert one.asked == []


async def test_name_that_changes_its_address_is_looked_up_once() -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await super().__call__(host, port)
            return ["192.0.2.1"] if len(self.asked) > 1 else [HERE]

    names = Rebinding({"peer.test": [HERE]})
    async with peer(answer(b"first")) as one, client_of(one, names=names) as client:
        body = await client.read(one.url())

    assert (body, names.asked) == (b"first", ["peer.test"])


async def test_name_that_rebinds_to_the_inside_is_refused_at_the_next_connection() -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await super().__call__(host, port)
            return [HERE] if len(self.asked) == 1 else ["169.254.169.254"]

    names = Rebinding({"peer.test": [HERE]})
    async with peer(answer(b"x")) as one, client_of(one, names=names) as client:
        await client.read(one.url())
        with pytest.raises(OutboundRefused):
            await client.read(one.url())


async def test_next_address_is_tried_where_the_first_does_not_answer() -> None:
    async with peer(answer(b"x")) as one:
        names = Names({"peer.test": ["::1", HERE]})
        async with client_of(one, names=names) as client:
            body = await client.read(one.url())

    assert body == b"x"


async def test_nobody_there_is_a_failure() -> None:
    async with peer(answer()) as one:
        pass
    async with client_of(one) as client:
        with pytest.raises(OutboundFailed):
            await client.read(one.url())


async def test_status_that_is_not_200_is_a_failure_for_a_simple_read() -> None:
    async with peer(answer(b"gone", status=404)) as one, client_of(one) as client:
        with pytest.raises(OutboundFailed, match="404"):
            await client.read(one.url())


async def test_status_and_headers_are_there_before_the_body() -> None:
    reply = answer(b"gone", status=404, headers={"X-Word": "a"})
    async with (
        peer(reply) as one,
        client_of(one) as client,
        client.stream("GET", one.url()) as got,
    ):
        told = (got.status, got.headers["x-word"])
        body = await got.read()

    assert (told, body) == ((404, "a"), b"gone")


async def test_body_is_sent_as_a_stream() -> None:
    got = bytearray()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got.extend(await reader.readexactly(6))
        writer.write(head(201, {"Content-Length": "0"}))
        await writer.drain()
        writer.close()

    async def parts() -> Any:
        yield b"abc"
        yield b"def"

    server = await asyncio.start_server(note, HERE, 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(Peer(port)) as client:
        sending = client.stream(
            "PUT", Peer(port).url(), headers={"Content-Length": "6"}, content=parts()
        )
        async with sending as answered:
            status = answered.status
    server.close()

    assert (bytes(got), status) == (b"abcdef", 201)


async def test_answer_that_is_no_http_is_a_failure() -> None:
    async def babble(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(b"220 mail ready\r\n\r\n")
        await writer.drain()

    async with peer(babble) as one, client_of(one) as client:
        with pytest.raises(OutboundFailed):
            await client.read(one.url())


async def test_answer_that_is_cut_short_is_a_failure() -> None:
    reply = answer(b"half", headers={"Content-Length": "100"})
    async with peer(reply) as one, client_of(one) as client:
        with pytest.raises(OutboundFailed):
            await client.read(one.url())


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answer(b"proxy")) as proxy, peer(answer(b"direct")) as one:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{HERE}:{proxy.port}")
        async with client_of(one) as client:
            assert await client.read(one.url()) == b"direct"

    assert proxy.asked == []


async def test_cookie_is_not_kept() -> None:
    reply = answer(b"x", headers={"Set-Cookie": "a=b"})
    async with peer(reply) as one, client_of(one) as client:
        await client.read(one.url())
        await client.read(one.url())

    assert "cookie" not in one.asked[1].headers


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_followed(status: int) -> None:
    async with (
        peer(answer(b"there")) as there,
        peer(redirect(there.url("/b"), status=status)) as here,
        client_of(here, there) as client,
        client.stream("GET", here.url("/a")) as got,
    ):
        assert await got.read() == b"there"
        assert got.url == there.url("/b")


async def test_relative_redirect_stays_on_the_host() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        wanted = answer(b"b") if asked.path == "/dir/b" else redirect("b")
        await wanted(asked, writer)

    async with peer(reply) as one, client_of(one) as client:
        assert await client.read(one.url("/dir/a")) == b"b"


async def test_redirect_of_a_post_is_handed_back() -> None:
    async with (
        peer(redirect("/further")) as one,
        client_of(one) as client,
        client.stream("POST", one.url(), content=b"x") as got,
    ):
        status, location = got.status, got.headers["location"]

    assert (status, location, len(one.asked)) == (302, "/further", 1)


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://2130706433:{port}/"),
        *("http://inside.test:{port}/", "//inside.test:{port}/", "http://169.254.169.254/"),
        *("file:///etc/passwd", "http://a:b@peer.test:{port}/", "\\\\inside.test:{port}/"),
    ],
)
async def test_redirect_to_the_inside_is_not_followed(location: str) -> None:
    async with peer(answer(b"secret")) as inside:
        lure = redirect(location.format(port=inside.port))
        async with peer(lure) as here, client_of(here, others=["http://*"]) as client:
            with pytest.raises(OutboundFailed):
                await client.read(here.url())

    assert inside.asked == []


async def test_redirects_without_end_are_given_up() -> None:
    async with peer(redirect("/again")) as one, client_of(one) as client:
        with pytest.raises(OutboundFailed, match="more than 5 redirects"):
            await client.read(one.url())

    assert len(one.asked) == 6


def test_redirect_from_https_to_http_is_refused() -> None:
    target = parse_url("https://a.example/")
    response = httpcore2.Response(302, headers=[(b"Location", b"http://a.example/")])

    with pytest.raises(OutboundRefused, match="https to http"):
        outbound._redirect(Answer(target, response, Caps()), target)


SECRET = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Api-Key": "secret"}


@pytest.mark.parametrize("host", ["other.test", "peer.test"])
async def test_credential_does_not_go_to_another_origin(host: str) -> None:
    async with (
        peer(answer()) as there,
        peer(redirect(there.url(host=host))) as here,
        client_of(here, there) as client,
    ):
        await client.read(here.url(), headers={**SECRET, "Range": "bytes=0-1"})

    assert here.asked[0].headers["authorization"] == "Bearer secret"
    assert not {"authorization", "cookie", "x-api-key"} & there.asked[0].headers.keys()
    assert there.asked[0].headers["range"] == "bytes=0-1"


async def test_credential_goes_on_within_its_origin() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (answer() if asked.path == "/b" else redirect("/b"))(asked, writer)

    async with peer(reply) as one, client_of(one) as client:
        await client.read(one.url("/a"), headers=SECRET)

    assert one.asked[1].headers["authorization"] == "Bearer secret"


# ---------------------------------------------------------------- size and time


async def test_announced_size_over_the_limit_is_refused_unread() -> None:
    reply = answer(b"", headers={"Content-Length": "1001"})
    async with peer(reply) as one, client_of(one, body_bytes=1000) as client:
        with pytest.raises(OutboundTooLarge):
            await client.read(one.url())


async def test_endless_body_is_left_at_the_limit() -> None:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(head(200, {"Connection": "close"}))
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with peer(reply) as one, client_of(one, body_bytes=1_000_000) as client:
        with pytest.raises(OutboundTooLarge):
            await client.read(one.url())


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_answer_is_read(encoding: str) -> None:
    plain = b"a picture of words " * 20_000
    body = gzip.compress(plain, mtime=0) if encoding == "gzip" else zlib.compress(plain)
    reply = answer(body, headers={"Content-Encoding": encoding})
    async with peer(reply) as one, client_of(one) as client:
        assert await client.read(one.url()) == plain


async def test_small_answer_that_grows_without_end_is_left_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    reply = answer(bomb, headers={"Content-Encoding": "gzip"})
    largest = 0
    async with (
        peer(reply) as one,
        client_of(one, body_bytes=1_000_000) as client,
        client.stream("GET", one.url()) as got,
    ):
        with pytest.raises(OutboundTooLarge):
            async for piece in got.chunks():
                largest = max(largest, len(piece))

    assert len(bomb) < 1_000_000
    assert largest <= 65536


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"x"),
        ("gzip, gzip", b"x"),
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"x", mtime=0)[:-9]),
    ],
)
async def test_compression_that_cannot_be_read_is_a_failure(encoding: str, body: bytes) -> None:
    reply = answer(body, headers={"Content-Encoding": encoding})
    async with peer(reply) as one, client_of(one) as client:
        with pytest.raises(OutboundFailed):
            await client.read(one.url())


async def _stall(asked: Asked, writer: asyncio.StreamWriter) -> None:
    del asked, writer
    await asyncio.sleep(60)


async def _drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
    del asked
    writer.write(head(200, {"Content-Length": "1000"}))
    for _ in range(1200):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("reply", "caps"), [(_stall, {"read_s": 0.2}), (_drip, {"total_s": 0.4})])
async def test_slow_answer_is_given_up(reply: Any, caps: dict[str, Any]) -> None:
    async with peer(reply) as one, client_of(one, **caps) as client:
        began = time.monotonic()
        with pytest.raises(OutboundTimedOut):
            await client.read(one.url())

    assert time.monotonic() - began < 20


async def test_slow_resolver_is_given_up() -> None:
    async def sleepy(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [HERE]

    async with client_of(Peer(1), names=sleepy, connect_s=0.1) as client:
        with pytest.raises(OutboundTimedOut):
            await client.read("http://peer.test:1/")


async def test_time_error_of_the_reader_stays_its_own() -> None:
    async with peer(answer(b"x")) as one, client_of(one) as client:
        with pytest.raises(TimeoutError):
            async with client.stream("GET", one.url()):
                raise TimeoutError
