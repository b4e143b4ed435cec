"""Request bodies that can be taken once, kept while they are sent, so that a retry can send them again.

What was taken from a generator or a file is kept up to a cap for each request and one for the whole mesh. Beyond a cap
everything is let go, and the body can no longer be sent from its beginning: the call is not retried from then on. So is
a body whose source broke, or was cancelled while it made the next piece: what comes after that would not be the body.

A body of which nothing was taken (no connection could be made) can always be sent.

Source: Envoy's ``request_body_buffer_limit``; a sidecar, too, retries only what it has kept whole.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

import anyio

from meshlib.dataplane.outcome import Failure
from meshlib.dataplane.request import Request
from meshlib.transport.base import Timeouts, WireError

__all__ = ["AsyncReplay", "Replay", "ReplayMemory"]


class ReplayMemory:
    """How much of request bodies a mesh keeps. Safe to share between threads.

    Attributes:
        per_request: Bytes kept of one body at most; 0 keeps none.
        total: Bytes kept of all bodies together at most.
        used: Bytes kept now.
    """

    def __init__(self, per_request: int = 64 * 1024, total: int = 16 * 1024 * 1024) -> None:
        self.per_request = per_request
        self.total = total
        self.used = 0
        self._lock = threading.RLock()

    def take(self, size: int, kept: int) -> bool:
        """Whether ``size`` more bytes may be kept of a body of which ``kept`` are; if so they are counted."""
        with self._lock:
            if kept + size > self.per_request or self.used + size > self.total:
                return False
            self.used += size
            return True

    def give(self, size: int) -> None:
        """So many bytes are no longer kept."""
        with self._lock:
            self.used -= size


class _Kept:
    """What both colours share.

    Attributes:
        request: Is told when the body can no longer be sent from its beginning.
        whole: The source has come to its end, and all of it is kept.
    """

    def __init__(self, request: Request, memory: ReplayMemory) -> None:
        self.request = request
        self.whole = False
        self._memory = memory
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False

    def content(self) -> bytes | None:
        """All of the body, once it was sent whole and is kept."""
        return b"".join(self._pieces) if self.whole else None

    def release(self) -> None:
        """Nobody will send it again: let go of what is kept."""
        self.request.replayable = False
        self.whole = False
        self._memory.give(self._size)
        self._pieces, self._size = [], 0

    def _keep(self, piece: bytes) -> None:
        if not self.request.replayable:
            return
        if self._memory.take(len(piece), self._size):
            self._pieces.append(piece)
            self._size += len(piece)
        else:
            self.release()

    def _end(self) -> None:
        self._ended = True
        self.whole = self.request.replayable


class Replay(_Kept):
    """A body from an iterable.

    Args:
        source: Is taken once, piece by piece, by however many attempts.
        request: See ``_Kept``.
        memory: Where kept bytes are counted.
    """

    def __init__(self, source: Iterable[bytes], request: Request, memory: ReplayMemory) -> None:
        super().__init__(request, memory)
        self._source = source
        self._rest: Iterator[bytes] | None = None

    def pieces(self, count: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its beginning: what is kept, then what the source still has; ``count`` is told of each size."""
        for piece in list(self._pieces):
            count(len(piece))
            yield piece
        while not self._ended:
            taken = self._next()
            if taken is None:
                return
            count(len(taken))
            yield taken

    def _next(self) -> bytes | None:
        try:
            if self._rest is None:
                self._rest = iter(self._source)
            piece = next(self._rest)
        except StopIteration:
            self._end()
            return None
        except BaseException:
            self.release()
            raise
        self._keep(piece)
        return piece


class AsyncReplay(_Kept):
    """The cooperative twin of ``Replay``; the deadline cuts a source short that takes too long."""

    def __init__(self, source: AsyncIterable[bytes], request: Request, memory: ReplayMemory) -> None:
        super().__init__(request, memory)
        self._source = source
        self._rest: AsyncIterator[bytes] | None = None

    def pieces(
        self, count: Callable[[int], None], timeouts: Timeouts, now: Callable[[], float]
    ) -> AsyncIterator[bytes]:
        """See ``Replay.pieces``; ``timeouts.deadline`` bounds the source, on the clock ``now``."""
        return _Pieces(self, list(self._pieces), count, timeouts, now)

    async def take(self, deadline: float | None, now: Callable[[], float]) -> bytes | None:
        """What the source has next, None at its end."""
        return None if self._ended else await self._until(deadline, now)

    async def _until(self, deadline: float | None, now: Callable[[], float]) -> bytes | None:
        if deadline is None:
            return await self._next()
        with anyio.move_on_after(max(0.0, deadline - now())):
            return await self._next()
        raise WireError(Failure.DEADLINE, "the timeout ran out while the request body was made", sent=True)

    async def _next(self) -> bytes | None:
        try:
            if self._rest is None:
                self._rest = aiter(self._source)
            piece = await anext(self._rest)
        except StopAsyncIteration:
            self._end()
            return None
        except BaseException:
            self.release()
            raise
        self._keep(piece)
        return piece


class _Pieces:
    """A body from its beginning; no generator, since one that an attempt leaves unfinished would have to be closed."""

    def __init__(
        self,
        replay: AsyncReplay,
        kept: list[bytes],
        count: Callable[[int], None],
        timeouts: Timeouts,
        now: Callable[[], float],
    ) -> None:
        self._replay = replay
        self._kept = iter(kept)
        self._count = count
        self._timeouts = timeouts
        self._now = now

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = next(self._kept, None)
        if piece is None:
            piece = await self._replay.take(self._timeouts.deadline, self._now)
        if piece is None:
            raise StopAsyncIteration
        self._count(len(piece))
        return piece
