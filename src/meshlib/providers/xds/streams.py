"""One stream with each server that is to be asked; the only part of the client that waits.

A stream that ends is begun again after a random pause: short when it had brought something, growing from failure to
failure otherwise, so that a thousand clients of one control plane do not come back at one moment.

Source: gRFCs A27 and A57; Envoy's ADS back-off.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshlib.errors import ConfigError
from meshlib.providers.xds.credentials import call_metadata, tls_context
from meshlib.providers.xds.wire import Broken, KeepAlive, Stream, address_of
from meshlib.xds.ads.client import Client, Group, Member
from meshlib.xds.messages import message

__all__ = ["Streams", "pause"]

_LOG = logging.getLogger("meshlib")
_FIRST, _GROWTH, _LONGEST = 1.0, 1.6, 30.0


def pause(failures: int, rng: random.Random) -> float:
    """Seconds before the next stream, drawn below a bound that grows with the failures in a row to half a minute."""
    return rng.random() * min(_LONGEST, _FIRST * _GROWTH ** min(failures, 20))


class Streams:
    """The streams of one client.

    Args:
        client: Decides what is sent, and takes what comes.
        keepalive: How silence is found out.
        changed: Called after everything that may have changed the client.
        rng: For the pauses.

    Attributes:
        errors: Server -> why there is no stream with it now.
    """

    def __init__(self, client: Client, keepalive: KeepAlive, changed: Callable[[], None], rng: random.Random) -> None:
        self.errors: dict[str, str] = {}
        self._client = client
        self._keepalive = keepalive
        self._changed = changed
        self._rng = rng
        self._running: dict[Member, asyncio.Task[None]] = {}
        self._wakes: dict[Member, asyncio.Event] = {}
        self._stirred = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Hold streams until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.stir()
            await self._tell_time()

    def stir(self) -> None:
        """The client may want something else than before."""
        for wake in self._wakes.values():
            wake.set()
        for group in self._client.groups.values():
            asked = group.asked if self._client.needs(group) else ()
            for member in group.members:
                if member in asked and member not in self._running:
                    self._running[member] = self._tasks.create_task(self._converse(group, member))
                elif member not in asked and member in self._running:
                    self._running.pop(member).cancel()
        self._stirred.set()
        self._changed()

    async def _tell_time(self) -> None:
        while True:
            self._stirred.clear()
            deadline = self._client.deadline
            try:
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._now())):
                    await self._stirred.wait()
            except TimeoutError:
                self._client.expire(self._now())
                self.stir()

    async def _converse(self, group: Group, member: Member) -> None:
        failures = 0
        while True:
            try:
                await self._stream(group, member)
                why = "the server ended the stream"
            except (Broken, ConfigError) as error:
                why = str(error)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                if self.errors.get(member.server.uri) != why:
                    _LOG.exception("the stream with %s broke", member.server.uri)
            failures = 0 if member.session.answered else failures + 1
            if self.errors.get(member.server.uri) != why:
                _LOG.warning("no stream with control plane %s: %s", member.server.uri, why)
            self.errors[member.server.uri] = why
            self._client.lost(group, member)
            self.stir()
            await asyncio.sleep(pause(failures, self._rng))

    async def _stream(self, group: Group, member: Member) -> None:
        """One stream from its beginning to its end."""
        session = member.session
        async with self._opened(member) as stream:
            self._client.opened(member, self._now())
            wake = self._wakes[member] = asyncio.Event()
            writer = asyncio.create_task(self._write(member, stream, wake))
            try:
                while (data := await stream.read()) is not None:
                    try:
                        answer = session.ANSWER.FromString(data)
                    except message.DecodeError as error:
                        raise Broken(f"INTERNAL: an answer cannot be read: {error}") from error
                    self.errors.pop(member.server.uri, None)
                    self._client.received(group, member, answer, self._now())
                    self.stir()
            finally:
                del self._wakes[member]
                writer.cancel()

    @asynccontextmanager
    async def _opened(self, member: Member) -> AsyncIterator[Stream]:
        server = member.server
        address = address_of(server.uri)
        tls = await asyncio.to_thread(tls_context, server)
        metadata = await asyncio.to_thread(call_metadata, server)
        stream = await Stream.open(address, member.session.METHOD, metadata, tls, self._keepalive)
        try:
            yield stream
        finally:
            stream.close()

    @staticmethod
    async def _write(member: Member, stream: Stream, wake: asyncio.Event) -> None:
        """Send what the session leaves in its outbox; a failure is seen by the reader."""
        outbox = member.session.outbox
        try:
            while True:
                while outbox:
                    await stream.write(outbox.pop(0).SerializeToString())
                wake.clear()
                await wake.wait()
        except OSError:
            return
