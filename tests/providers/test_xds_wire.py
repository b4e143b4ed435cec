"""The stream under the provider, against servers that misbehave; each is a script of bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import PingReceived, RequestReceived

from meshlib.providers.xds.wire import Address, Broken, KeepAlive, Stream, address_of

QUICK, PATIENT = KeepAlive(0.1, 0.1), KeepAlive()
OK = [(":status", "200"), ("content-type", "application/grpc")]


def framed(*messages: bytes, flag: int = 0) -> bytes:
    return b"".join(bytes([flag]) + len(each).to_bytes(4, "big") + each for each in messages)


class Peer:
    """The server's side of one connection, as far as a test drives it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.stream = 0

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def hear(self) -> list[Any]:
        events = self.h2.receive_data(await self.reader.read(65536))
        await self.flush()
        return events

    async def begin(self) -> None:
        """Wait for the call and answer with its headers."""
        await self.flush()
        while not self.stream:
            for event in await self.hear():
                if isinstance(event, RequestReceived):
                    self.stream = event.stream_id
        self.h2.send_headers(self.stream, OK)
        await self.flush()


Script = Callable[[Peer], Coroutine[Any, Any, None]]


def against(
    script: Script, client: Callable[[Stream], Coroutine[Any, Any, Any]], keepalive: KeepAlive = PATIENT
) -> Any:
    """What ``client`` makes of a stream with a server that follows ``script``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        except OSError:
            pass
        finally:
            writer.close()

    async def run() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            stream = await Stream.open(Address("127.0.0.1", port), "/a/B", [], None, keepalive)
            try:
                return await asyncio.wait_for(client(stream), 20)
            finally:
                stream.close()

    return asyncio.run(run())


async def everything(stream: Stream) -> tuple[list[bytes], str]:
    found = []
    try:
        while (data := await stream.read()) is not None:
            found.append(data)
    except Broken as error:
        return found, str(error)
    return found, "OK"


def test_messages_are_put_together_from_a_slow_drip_of_bytes():
    async def drip(peer: Peer) -> None:
        await peer.begin()
        for byte in framed(b"one", b"", b"three"):
            peer.h2.send_data(peer.stream, bytes([byte]))
            await peer.flush()
        peer.h2.send_headers(peer.stream, [("grpc-status", "0")], end_stream=True)
        await peer.flush()

    assert against(drip, everything) == ([b"one", b"", b"three"], "OK")


@pytest.mark.parametrize(
    ("trailers", "told"),
    [
        ([("grpc-status", "7"), ("grpc-message", "not%20you")], "PERMISSION_DENIED: not you"),
        ([("grpc-status", "99")], "99: "),
        ([("x", "y")], "UNKNOWN: the stream ended without a status"),
    ],
)
def test_how_the_server_ended_it_is_told(trailers, told):
    async def end(peer: Peer) -> None:
        await peer.begin()
        peer.h2.send_headers(peer.stream, trailers, end_stream=True)
        await peer.flush()
        await peer.hear()

    assert against(end, everything) == ([], told)


def test_what_came_before_a_polite_goodbye_is_read_first():
    async def leave(peer: Peer) -> None:
        await peer.begin()
        peer.h2.send_data(peer.stream, framed(b"last"))
        peer.h2.close_connection(0)
        await peer.flush()
        await peer.hear()

    assert against(leave, everything) == ([b"last"], "OK")


def test_a_goodbye_in_anger_is_told():
    async def leave(peer: Peer) -> None:
        await peer.begin()
        peer.h2.close_connection(11, b"too_many_pings")
        await peer.flush()
        await peer.hear()

    assert against(leave, everything) == ([], "UNAVAILABLE: GOAWAY with code 11 too_many_pings")


@pytest.mark.parametrize(
    ("flag", "told"), [(1, "INTERNAL: a message is compressed"), (0, "UNAVAILABLE: the connection was closed")]
)
def test_half_a_message_and_compressed_ones_are_none(flag, told):
    async def send(peer: Peer) -> None:
        await peer.begin()
        peer.h2.send_data(peer.stream, framed(b"whole", flag=flag)[:-1])
        await peer.flush()

    found, how = against(send, everything)
    assert found == []
    assert how.startswith(told)


def test_a_silent_peer_is_given_up_and_one_that_answers_pings_is_not():
    async def silent(peer: Peer) -> None:
        await peer.begin()
        await asyncio.sleep(30)

    async def quiet(peer: Peer) -> None:
        await peer.begin()
        pings = 0
        while pings < 3:
            pings += sum(isinstance(event, PingReceived) for event in await peer.hear())
        peer.h2.send_headers(peer.stream, [("grpc-status", "0")], end_stream=True)
        await peer.flush()
        await peer.hear()

    assert against(silent, everything, QUICK) == ([], "UNAVAILABLE: no answer to a ping within 0.1 s")
    assert against(quiet, everything, KeepAlive(0.05, 10)) == ([], "OK")


def test_a_large_message_passes_in_both_directions():
    large = bytes(range(256)) * 8_000

    async def echo(peer: Peer) -> None:
        await peer.begin()
        got = b""
        while len(got) < len(large) + 5:
            for event in peer.h2.receive_data(await peer.reader.read(65536)):
                if hasattr(event, "flow_controlled_length"):
                    got += event.data
                    peer.h2.acknowledge_received_data(event.flow_controlled_length, peer.stream)
            await peer.flush()
        while got:
            room = min(peer.h2.local_flow_control_window(peer.stream), peer.h2.max_outbound_frame_size)
            peer.h2.send_data(peer.stream, got[:room]) if room else None
            got = got[room:]
            await peer.flush()
            if not room:
                await peer.hear()
        await peer.hear()

    async def client(stream: Stream) -> bytes | None:
        await stream.write(large)
        return await stream.read()

    assert against(echo, client) == large


def test_what_does_not_speak_http2_is_no_control_plane():
    async def other(peer: Peer) -> None:
        peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.writer.drain()
        await peer.reader.read()

    with pytest.raises(Broken, match="UNAVAILABLE: no HTTP/2 came"):
        against(other, everything)


def test_nobody_there_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Broken, match="UNAVAILABLE: "):
        asyncio.run(Stream.open(Address("127.0.0.1", port), "/a/B", [], None, QUICK))


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("istiod.istio-system.svc:15010", Address("istiod.istio-system.svc", 15010)),
        ("dns:///istiod:15010", Address("istiod", 15010)),
        ("dns://8.8.8.8/istiod:15010", Address("istiod", 15010)),
        ("ipv4:10.0.0.1:80", Address("10.0.0.1", 80)),
        ("ipv6:[::1]:80", Address("::1", 80)),
        ("[::1]", Address("::1", 443)),
        ("xds.example.com", Address("xds.example.com", 443)),
        ("unix:///etc/istio/proxy/XDS", Address("", path="/etc/istio/proxy/XDS")),
        ("unix:relative.sock", Address("", path="relative.sock")),
    ],
)
def test_targets_lead_where_grpc_says(target, address):
    assert address_of(target) == address


@pytest.mark.parametrize("target", ["", ":80", "host:port"])
def test_what_is_no_target_is_told(target):
    with pytest.raises(Broken, match="is no target"):
        address_of(target)
