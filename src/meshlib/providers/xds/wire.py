"""One bidirectional gRPC stream over HTTP/2, for asyncio: as much of gRPC as control planes need.

All of it, the connection included, belongs to one stream and one event loop. So a forked child and its parent have
nothing in common, which grpcio's own event loop cannot offer, and a silent peer is found out as soon as is asked for.

Source: gRPC over HTTP/2 (``PROTOCOL-HTTP2``); RFC 9113.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from meshlib.model.grpc_status import GRPC_STATUS_NAMES, grpc_of_http

__all__ = ["Address", "Broken", "KeepAlive", "Stream", "address_of"]

_CONNECT = 20.0
"""Seconds for a connection, TLS and the peer's settings (gRPC's own default)."""
_STREAM_WINDOW, _CONNECTION_WINDOW = 1 << 22, 1 << 24
_LARGEST = 256 << 20
_WAITING = 8
"""Messages that may wait to be read before the peer is held back."""
_READ = 1 << 16
_FRAME_HEAD, _SETTINGS = 9, 4

Headers = Iterable[tuple[str, str]]


class Broken(Exception):
    """The stream ended otherwise than with status OK; the text says how."""


class KeepAlive(NamedTuple):
    """How a silent peer is found out.

    Attributes:
        interval: Seconds without a word from the server after which it is asked.
        timeout: Seconds within which it must answer.
    """

    interval: float = 30.0
    timeout: float = 10.0


class Address(NamedTuple):
    """Where a gRPC target leads: a host and a port, or the path of a unix socket."""

    host: str
    port: int = 0
    path: str = ""

    @property
    def authority(self) -> str:
        """What the server is called in requests."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(target: str) -> Address:
    """The address of a target: ``host:port``, with or without ``dns:///``, ``unix:path`` or ``unix:///path``.

    Raises:
        Broken: It is of another form.
    """
    if target.startswith("unix:"):
        return Address("", path=target.removeprefix("unix:").removeprefix("//"))
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            target = target[2:].partition("/")[2] if target.startswith("//") else target
    host, colon, port = target.rpartition(":")
    if not colon or target.endswith("]"):
        host, port = target, "443"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal():
        raise Broken(f"{target!r} is no target of the form host:port or unix:path")
    return Address(host, int(port))


class Stream:
    """A stream that stands; made by ``open``.

    Args:
        reader: Of the connection.
        writer: Of the connection.
        keepalive: How silence is found out.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keepalive: KeepAlive) -> None:
        self._reader = reader
        self._writer = writer
        self._keepalive = keepalive
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._loop = asyncio.get_running_loop()
        self._id = 0
        self._buffer = bytearray()
        self._messages: asyncio.Queue[bytes | Broken | None] = asyncio.Queue()
        self._ended = False
        self._unacknowledged = 0
        self._settled = asyncio.Event()
        self._moved = asyncio.Event()
        self._word = asyncio.Event()
        self._heard_at = self._loop.time()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls, address: Address, method: str, headers: Headers, tls: ssl.SSLContext | None, keepalive: KeepAlive
    ) -> Stream:
        """Connect and begin the call.

        Raises:
            Broken: There is no connection, or what answers does not speak HTTP/2.
        """
        try:
            async with asyncio.timeout(_CONNECT):
                made = cls(*await _connect(address, tls), keepalive)
                try:
                    await made._begin(address, method, headers, secure=tls is not None)
                except BaseException:
                    made.close()
                    raise
                return made
        except TimeoutError:
            raise Broken(f"UNAVAILABLE: no connection within {_CONNECT:g} s") from None
        except OSError as error:
            raise Broken(f"UNAVAILABLE: {error}") from error

    async def _begin(self, address: Address, method: str, headers: Headers, *, secure: bool) -> None:
        chosen = self._writer.get_extra_info("ssl_object")
        if chosen is not None and chosen.selected_alpn_protocol() not in (None, "h2"):
            raise Broken(f"UNAVAILABLE: the server speaks {chosen.selected_alpn_protocol()}, not h2")
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW, SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW)
        self._flush()
        self._tasks = [self._loop.create_task(self._pump()), self._loop.create_task(self._watch())]
        await self._settled.wait()
        if self._ended:
            await self.read()
            raise Broken("UNAVAILABLE: the server went away before the call")
        self._id = self._h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "https" if secure else "http"), (":path", method)]
        fixed = [(":authority", address.authority), ("te", "trailers"), ("content-type", "application/grpc")]
        self._h2.send_headers(self._id, [*pseudo, *fixed, ("user-agent", "grpc-python-meshlib"), *headers])
        self._flush()

    # Messages -------------------------------------------------------------------------------------------------------

    async def read(self) -> bytes | None:
        """The next message; None when the server ended the stream with OK, or goes away politely.

        Raises:
            Broken: The stream ended otherwise.
        """
        found = await self._messages.get()
        if isinstance(found, Broken):
            raise found
        if not self._ended:
            self._acknowledge()
        return found

    async def write(self, message: bytes) -> None:
        """Send a message; waits as long as the peer takes no more. Nothing is sent on a stream that has ended."""
        rest = memoryview(b"\0" + len(message).to_bytes(4, "big") + message)
        while rest and not self._ended:
            room = min(self._h2.local_flow_control_window(self._id), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._moved.clear()
                await self._moved.wait()
                continue
            self._h2.send_data(self._id, bytes(rest[:room]))
            rest = rest[room:]
            self._flush()
            await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._ended = True
        self._moved.set()
        for task in self._tasks:
            task.cancel()
        self._writer.transport.abort()

    # The connection -------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if waiting := self._h2.data_to_send():
            self._writer.write(waiting)

    def _end(self, how: Broken | None) -> None:
        if not self._ended:
            self._ended = True
            self._messages.put_nowait(how)
            self._settled.set()
            self._moved.set()

    async def _pump(self) -> None:
        """Take what comes until the stream ends; settings come first."""
        try:
            data = await self._reader.readexactly(_FRAME_HEAD)
            if data[3] != _SETTINGS:
                raise ProtocolError(f"it begins with {data!r}")
            while data and not self._ended:
                self._heard_at = self._loop.time()
                self._word.set()
                for event in self._h2.receive_data(data):
                    self._take(event)
                self._flush()
                data = await self._reader.read(_READ)
            self._end(Broken("UNAVAILABLE: the connection was closed"))
        except asyncio.IncompleteReadError:
            self._end(Broken("UNAVAILABLE: the connection was closed before a word"))
        except ProtocolError as error:
            self._end(Broken(f"UNAVAILABLE: no HTTP/2 came: {error}"))
        except OSError as error:
            self._end(Broken(f"UNAVAILABLE: {error}"))

    def _take(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            self._settled.set()
        elif isinstance(event, DataReceived):
            self._unacknowledged += event.flow_controlled_length or 0
            self._gather(event.data or b"")
        elif isinstance(event, ResponseReceived | TrailersReceived):
            self._judge(dict(event.headers or ()))  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            self._end(Broken("UNKNOWN: the stream ended without a status"))
        elif isinstance(event, StreamReset):
            self._end(Broken(f"UNAVAILABLE: the stream was reset with code {event.error_code}"))
        elif isinstance(event, ConnectionTerminated):
            why = (event.additional_data or b"").decode("utf-8", "replace")
            polite = not event.error_code
            self._end(None if polite else Broken(f"UNAVAILABLE: GOAWAY with code {event.error_code} {why}".rstrip()))
        self._moved.set()

    def _gather(self, data: bytes) -> None:
        """Cut messages out of what came: a flag, four bytes of length, and so many bytes."""
        self._buffer += data
        while len(self._buffer) >= 5:
            size = int.from_bytes(self._buffer[1:5], "big")
            if self._buffer[0] or size > _LARGEST:
                self._end(Broken(f"INTERNAL: a message is compressed, or of {size} bytes"))
                return
            if len(self._buffer) < 5 + size:
                break
            self._messages.put_nowait(bytes(self._buffer[5 : 5 + size]))
            del self._buffer[: 5 + size]
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Let the peer send as much again, unless too much waits to be read."""
        if self._unacknowledged and self._messages.qsize() < _WAITING:
            self._h2.acknowledge_received_data(self._unacknowledged, self._id)
            self._unacknowledged = 0
            self._flush()

    def _judge(self, headers: dict[str, str]) -> None:
        status = headers.get(":status", "200")
        if status != "200":
            name = GRPC_STATUS_NAMES[grpc_of_http(int(status))]
            return self._end(Broken(f"{name}: the server answered with HTTP status {status}"))
        code = headers.get("grpc-status")
        if code == "0":
            return self._end(None)
        if code is not None:
            name = GRPC_STATUS_NAMES[int(code)] if code.isdecimal() and int(code) < len(GRPC_STATUS_NAMES) else code
            self._end(Broken(f"{name}: {unquote(headers.get('grpc-message', ''))}"))
        return None

    async def _watch(self) -> None:
        """Ask a peer that is silent for a sign of life, and give it up when there is none."""
        interval, timeout = self._keepalive
        while not self._ended:
            await asyncio.sleep(max(0.01, self._heard_at + interval - self._loop.time()))
            if self._ended or self._loop.time() < self._heard_at + interval:
                continue
            self._word.clear()
            self._h2.ping(b"meshlib?")
            self._flush()
            try:
                async with asyncio.timeout(timeout):
                    await self._word.wait()
            except TimeoutError:
                self._end(Broken(f"UNAVAILABLE: no answer to a ping within {timeout:g} s"))


async def _connect(address: Address, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    dial = partial(asyncio.open_connection, address.host, address.port)
    if address.path:
        dial = partial(asyncio.open_unix_connection, address.path)
    name = (address.host or "localhost") if tls is not None else None
    return await dial(ssl=tls, server_hostname=name, limit=_READ)
