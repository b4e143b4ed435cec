"""Servers that misbehave as told: ``python -m tests.chaos.peer COUNT`` serves HTTP/1.1 on COUNT ports.

It is told on stdin and answers on stdout, one JSON value a line; ``peers.py`` speaks that. A request whose body was
read whole and acted upon is counted by its ``x-id``: a second count of one id is double processing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter

from tests.chaos import peer_http2

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
_BODY = b"0123456789"


class Endpoint:
    """One port and how it behaves now."""

    def __init__(self) -> None:
        self.mode, self.value = "ok", 0.0
        self.port = 0
        self.requests = 0
        self.processed: Counter[str] = Counter()
        self.connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self.server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections; on the same port as before."""
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=512, limit=1 << 20)
            self.port = self.server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Refuse connections, and reset those there are."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer in list(self.connections):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.connections[writer] = task
        try:
            if self.mode == "close-on-accept":
                return
            if self.mode.startswith("h2-"):
                await peer_http2.serve(self.mode[3:], self.processed, reader, writer)
                return
            carried = 0
            while await _Exchange(self, reader, writer, carried).run():
                carried += 1
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.connections.pop(writer, None)


class _Exchange:
    """One request on one connection."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carried: int
    ) -> None:
        self.endpoint, self.reader, self.writer, self.carried = endpoint, reader, writer, carried
        self.headers: dict[str, str] = {}

    async def run(self) -> bool:
        """Whether the connection goes on."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        mode = self.endpoint.mode
        self.endpoint.requests += 1
        before = _BEFORE_THE_BODY.get(mode)
        if before is not None:
            ends = await before(self)
            if ends is not None:
                return ends
        await self.body()
        if mode == "status-503":
            self.say(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy")
            return True
        self.process()
        return await _AFTER_THE_BODY.get(mode, _ok)(self)

    async def body(self) -> None:
        """Read all of it."""
        if self.headers.get("expect") == "100-continue":
            self.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("transfer-encoding") != "chunked":
            await self.reader.readexactly(int(self.headers.get("content-length", 0)))
            return
        while size := int(await self.reader.readline(), 16):
            await self.reader.readexactly(size + 2)
        await self.reader.readline()

    def process(self) -> None:
        """Act upon the request: what must not happen twice."""
        self.endpoint.processed[self.headers.get("x-id", "")] += 1

    def say(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)

    async def gone(self) -> None:
        """Wait until the client hangs up."""
        while await self.reader.read(65536):
            pass

    async def reset(self) -> bool:
        """RST once what was said has left."""
        await self.writer.drain()
        await asyncio.sleep(0.01)
        self.writer.transport.abort()
        return False


async def _ok(it: _Exchange) -> bool:
    it.say(_HEAD + _BODY)
    return True


async def _slow(it: _Exchange) -> bool:
    await asyncio.sleep(it.endpoint.value)
    return await _ok(it)


async def _reset_before_headers(it: _Exchange) -> bool:
    return await it.reset()


async def _reset_after_headers(it: _Exchange) -> bool:
    it.say(_HEAD)
    return await it.reset()


async def _reset_in_body(it: _Exchange) -> bool:
    it.say(_HEAD + _BODY[:5])
    return await it.reset()


async def _stall_before_headers(it: _Exchange) -> bool:
    await it.gone()
    return False


async def _stall_after_headers(it: _Exchange) -> bool:
    it.say(_HEAD)
    await it.gone()
    return False


async def _trickle(it: _Exchange) -> bool:
    it.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        it.say(b"x")
        await it.writer.drain()
        await asyncio.sleep(0.02)
    return True


async def _malformed(it: _Exchange) -> bool:
    it.say(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n")
    await it.gone()
    return False


async def _two_lengths(it: _Exchange) -> bool:
    it.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 10\r\n\r\n" + _BODY)
    await it.gone()
    return False


async def _huge_headers(it: _Exchange) -> bool:
    it.say(b"HTTP/1.1 200 OK\r\nx-much: " + b"m" * 300_000 + b"\r\ncontent-length: 0\r\n\r\n")
    await it.gone()
    return False


async def _half_close(it: _Exchange) -> bool:
    it.say(b"HTTP/1.1 200 OK\r\n\r\n" + _BODY)
    it.writer.write_eof()
    await it.gone()
    return False


async def _half_close_in_body(it: _Exchange) -> bool:
    it.say(_HEAD + _BODY[:5])
    it.writer.write_eof()
    await it.gone()
    return False


async def _overrun(it: _Exchange) -> bool:
    it.say(_HEAD + _BODY + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    return True


async def _reused_close_at_head(it: _Exchange) -> bool | None:
    return False if it.carried else None


async def _reused_close_in_body(it: _Exchange) -> bool | None:
    if it.carried:
        await it.reader.readexactly(1)
        return False
    return None


async def _reused_close_after_body(it: _Exchange) -> bool:
    return False if it.carried else await _ok(it)


async def _early(it: _Exchange) -> bool | None:
    it.say(b"HTTP/1.1 413 Too Much\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmuch")
    await it.gone()
    return False


async def _expectation_failed(it: _Exchange) -> bool | None:
    it.say(b"HTTP/1.1 417 No\r\ncontent-length: 2\r\n\r\nno")
    await it.gone()
    return False


_BEFORE_THE_BODY = {
    "reused-close-at-head": _reused_close_at_head,
    "reused-close-in-body": _reused_close_in_body,
    "early": _early,
    "expectation-failed": _expectation_failed,
}
_AFTER_THE_BODY = {
    "slow": _slow,
    "reset-before-headers": _reset_before_headers,
    "reset-after-headers": _reset_after_headers,
    "reset-in-body": _reset_in_body,
    "stall-before-headers": _stall_before_headers,
    "stall-after-headers": _stall_after_headers,
    "trickle": _trickle,
    "malformed": _malformed,
    "two-lengths": _two_lengths,
    "huge-headers": _huge_headers,
    "half-close": _half_close,
    "half-close-in-body": _half_close_in_body,
    "overrun": _overrun,
    "reused-close-after-body": _reused_close_after_body,
}
_KNOWN = {"ok", "dead", "close-on-accept", "status-503", *_BEFORE_THE_BODY, *_AFTER_THE_BODY} | {
    "h2-ok",
    "h2-goaway",
    "h2-refused-stream",
    "h2-reset-stream",
}


async def _obey(endpoints: list[Endpoint], order: dict[str, object]) -> object:
    if order["do"] == "ports":
        return [each.port for each in endpoints]
    if order["do"] == "facts":
        return [
            {"requests": e.requests, "processed": e.processed, "open": len(e.connections), "mode": e.mode}
            for e in endpoints
        ]
    endpoint, mode = endpoints[int(str(order["endpoint"]))], str(order["mode"])
    if mode not in _KNOWN:
        raise ValueError(f"no behaviour {mode}")
    endpoint.mode, endpoint.value = mode, float(str(order["value"]))
    if mode == "dead":
        endpoint.die()
    else:
        await endpoint.listen()
    return mode


async def main(count: int) -> None:
    """Serve until stdin ends."""
    endpoints = [Endpoint() for _ in range(count)]
    for endpoint in endpoints:
        await endpoint.listen()
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        answer = await _obey(endpoints, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
