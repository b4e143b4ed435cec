"""Messages of a request stream on ``grpc.aio`` channels, kept for retries: from an iterator, or written one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from meshlib.dataplane.request import Request
from meshlib.grpc.message_replay import KeptMessages
from meshlib.grpc.unary import FRAME
from meshlib.replay import ReplayMemory

__all__ = ["EOF", "IteratedMessages", "WrittenMessages"]

Count = Callable[[int], None]
_END = object()
EOF: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue] - it is there, and in no list
"""What reading gives at the end of a stream."""


class IteratedMessages(KeptMessages):
    """A stream from an iterable, asynchronous or not.

    While it may have to be sent again, the caller's iterator is asked from a task of its own: an attempt that fails is
    cancelled by grpcio while it waits for the next message, and would take an asynchronous generator with it.
    """

    def __init__(
        self,
        source: Any,
        serialize: Callable[[Any], bytes],
        count: Count,
        request: Request,
        memory: ReplayMemory,
        weigh: Callable[[Any], int | None] = len,
    ) -> None:
        super().__init__(request, memory, weigh)
        self._asynchronous = hasattr(source, "__aiter__")
        self._source = aiter(source) if self._asynchronous else iter(source)
        self._serialize = serialize
        self._count = count
        self._pull: asyncio.Task[bytes | None] | None = None

    def messages(self) -> AsyncIterator[bytes]:
        """The stream from its beginning."""
        return _Messages(self)

    async def message(self, number: int) -> bytes:
        """The message of that number.

        Raises:
            _Ended: There are no more.
            BaseException: What the caller's iterator raised.
        """
        place = number - self.gone
        message = self.kept[place] if 0 <= place < len(self.kept) else await self._take()
        self._count((self._weigh(message) or 0) + FRAME)
        return message

    async def _take(self) -> bytes:
        if self.broken is not None:
            raise self.broken
        if self.ended:
            raise _Ended
        if not self._asynchronous:
            return self._taken(next(self._source, _END))
        if self._pull is None and not self._request.replayable:
            return self._taken(await anext(self._source, _END))
        if self._pull is None:
            self._pull = asyncio.ensure_future(self._pulled())
        pull = self._pull
        await asyncio.wait([pull])
        message = pull.result()
        if message is not None:
            return message
        raise self.broken or _Ended

    async def _pulled(self) -> bytes | None:
        """The next message; None at the end, or where the caller's iterator is broken."""
        try:
            return self._taken(await anext(self._source, _END))
        except _Ended:
            return None
        except BaseException as error:
            self.release()
            self.broken = error
            return None
        finally:
            self._pull = None

    def stop(self) -> None:
        """See ``KeptMessages.stop``."""
        if self._pull is not None:
            self._pull.cancel()

    def _taken(self, message: Any) -> bytes:
        if message is _END:
            self.ended = True
            raise _Ended
        data = self._serialize(message)
        self.keep(data)
        return data


class _Ended(Exception):
    """The stream has come to its end; tasks pass this on, unlike ``StopAsyncIteration``."""


class _Messages:
    __slots__ = ("_number", "_replay")

    def __init__(self, replay: IteratedMessages) -> None:
        self._replay = replay
        self._number = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        replay, number = self._replay, self._number
        try:
            message = await replay.message(number)
        except _Ended:
            raise StopAsyncIteration from None
        except Exception as error:
            replay.broken = error
            replay.release()
            raise
        self._number = number + 1
        return message


class WrittenMessages(KeptMessages):
    """A stream that the caller writes, message by message.

    Attributes:
        lock: Held while a message is written; messages stay in order.
    """

    def __init__(self, request: Request, memory: ReplayMemory, count: Count) -> None:
        super().__init__(request, memory)
        self.lock = asyncio.Lock()
        self._count = count
        self._real: Any = None
        self._written = 0
        self._closed: Any = None

    async def write(self, real: Any, message: bytes) -> None:
        """One more message; ``keep`` was told of it, and may no longer have it."""
        if self.kept:
            await self.send_kept(real)
            return
        self._count(len(message) + FRAME)
        await real.write(message)

    async def send_kept(self, real: Any) -> None:
        """All that is kept and that this attempt was not given yet."""
        if self._real is not real:
            self._real, self._written = real, self.gone
        while self._written < self.gone + len(self.kept):
            message = self.kept[self._written - self.gone]
            self._written += 1
            self._count(len(message) + FRAME)
            await real.write(message)

    async def close(self, real: Any) -> None:
        """Tell this attempt that no more is written; once."""
        if self._closed is not real:
            self._closed = real
            await real.done_writing()
