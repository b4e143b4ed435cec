"""HTTP/2 over TLS in front of the API server of these tests, as real ones speak it: a stream for each request."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes

from tests.kubernetes.api import Server

_STREAMS = 100
"""As many at once as API servers allow."""


class Front:
    """Takes HTTP/2 and asks ``api`` by HTTP/1.1.

    Args:
        api: The server behind.
        tls: Its context; ALPN is set here.

    Attributes:
        connections: How many were made.
        frozen: Nothing is read or written any more, and nothing closed: a peer that vanished.
    """

    def __init__(self, api: Server, tls: ssl.SSLContext) -> None:
        self.api, self.connections, self.frozen = api, 0, False
        self.open: list[_Connection] = []
        tls.set_alpn_protocols(["h2"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self.do(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls))
        self.port = self._server.sockets[0].getsockname()[1]

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def go_away(self) -> None:
        """Finish what runs, take nothing more."""

        async def tell() -> None:
            for each in self.open:
                each.wire.close_connection()
                each.flush()

        self.do(tell())

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(self, reader, writer)
        self.open.append(connection)
        try:
            await connection.serve()
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.open.remove(connection)
            for task in connection.tasks.values():
                task.cancel()
            writer.close()


class _Connection:
    def __init__(self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.front, self.reader, self.writer = front, reader, writer
        self.wire = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.wire.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS})
        self.wire.initiate_connection()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.asked: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.room = asyncio.Event()

    def flush(self) -> None:
        if not self.front.frozen:
            self.writer.write(self.wire.data_to_send())

    async def serve(self) -> None:
        self.flush()
        while data := await self.reader.read(65536):
            while self.front.frozen:
                await asyncio.sleep(0.02)
            for event in self.wire.receive_data(data):
                self._take(event)
            self.flush()

    def _take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.asked[event.stream_id], self.bodies[event.stream_id] = event.headers, b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.tasks[event.stream_id] = asyncio.ensure_future(self._answer(event.stream_id))
        elif isinstance(event, StreamReset) and event.stream_id in self.tasks:
            self.tasks.pop(event.stream_id).cancel()
        elif isinstance(event, WindowUpdated):
            self.room.set()

    async def _answer(self, stream: int) -> None:
        headers, body = dict(self.asked.pop(stream)), self.bodies.pop(stream)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.front.api.port)
        try:
            plain = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name[0] != ":")
            length = f"content-length: {len(body)}\r\n" if body and "content-length" not in headers else ""
            host = f"host: {headers[':authority']}\r\n"
            head = f"{headers[':method']} {headers[':path']} HTTP/1.1\r\n{host}{plain}{length}\r\n"
            writer.write(head.encode() + body)
            await self._relay(stream, reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.wire.reset_stream(stream)
            self.flush()
        finally:
            writer.close()

    async def _relay(self, stream: int, reader: asyncio.StreamReader) -> None:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        chunked = headers.pop("transfer-encoding", "") == "chunked"
        self.wire.send_headers(stream, [(":status", first.split(" ")[1]), *headers.items()])
        self.flush()
        if not chunked:
            await self._send(stream, await reader.readexactly(int(headers["content-length"])))
        while chunked and (size := int(await reader.readline(), 16)):
            await self._send(stream, (await reader.readexactly(size + 2))[:-2])
        self.wire.end_stream(stream)
        self.flush()

    async def _send(self, stream: int, data: bytes) -> None:
        while data:
            size = min(len(data), self.wire.local_flow_control_window(stream), self.wire.max_outbound_frame_size)
            if size <= 0:
                self.room.clear()
                await self.room.wait()
                continue
            self.wire.send_data(stream, data[:size])
            data = data[size:]
            self.flush()
