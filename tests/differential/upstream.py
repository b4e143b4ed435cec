"""One loopback server on many ports that says on which port it was asked, and what it received."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

HEADERS = [("x-up", "one"), ("x-up", "two"), ("x-base", "upstream"), ("content-type", "application/json")]
"""What every answer carries, so that operations on responses have something to work on."""


class Upstream:
    """Echo servers on ``count`` ports of 127.0.0.1, in a thread of their own.

    Attributes:
        ports: In the order asked for.
        failing: Statuses to answer with, by the value of the request header ``x-case``; taken in turn, the last stays.
        attempts: Every request that carried ``x-case``: case -> attempt counts seen.
        asked: The same: case -> ports that were asked, in their order.
    """

    def __init__(self, count: int) -> None:
        self.ports: list[int] = []
        self.failing: dict[str, list[int]] = {}
        self.attempts: dict[str, list[str]] = {}
        self.asked: dict[str, list[int]] = {}
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(count), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self, count: int) -> None:
        for _ in range(count):
            server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening and end the thread."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()

        await asyncio.sleep(0)

    def status_for(self, case: str, attempt: str) -> int:
        """The next status of a case; 0 closes the connection without an answer, -1 never answers."""
        self.attempts.setdefault(case, []).append(attempt)
        steps = self.failing.get(case, [200])
        return steps.pop(0) if len(steps) > 1 else steps[0]


class _Connection(asyncio.Protocol):
    """Enough of HTTP/1.1 for requests with a Content-Length or without a body."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = [tuple(line.split(":", 1)) for line in lines[1:]]
            pairs = [(name.lower(), value.strip(" \t")) for name, value in headers]
            length = int(dict(pairs).get("content-length", "0"))
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(lines[0], pairs)

    def answer(self, line: str, pairs: list[tuple[str, str]]) -> None:
        found = dict(pairs)
        status = 200
        if "x-case" in found:
            self.upstream.asked.setdefault(found["x-case"], []).append(self.port)
            status = self.upstream.status_for(found["x-case"], found.get("x-envoy-attempt-count", ""))
        if status <= 0:
            if status == 0:
                self.transport.close()
            return
        method, target, _ = line.split(" ", 2)
        body = json.dumps({"port": self.port, "method": method, "target": target, "headers": pairs}).encode()
        head = [f"HTTP/1.1 {status} OK", f"content-length: {len(body)}"]
        head.extend(f"{name}: {value}" for name, value in HEADERS)
        raw = "\r\n".join([*head, "", ""]).encode("latin-1")
        self.transport.write(raw if method == "HEAD" else raw + body)
