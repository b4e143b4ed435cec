"""Messages of a request stream, kept while they are sent, so that a retry can send them again.

The caller's iterator is taken once. What it gave is kept up to the mesh's bounds for request bodies; beyond them, and
as soon as the call is committed, nothing is kept and the stream can no longer be sent from its beginning.

Source: Envoy ``request_body_buffer_limit``; gRFC A6 (buffer limit).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from meshlib.dataplane.request import Request
from meshlib.grpc.unary import FRAME
from meshlib.replay import ReplayMemory

__all__ = ["KeptMessages", "MessageReplay"]


class KeptMessages:
    """What is kept of a stream.

    Args:
        request: Is told when the stream can no longer be sent from its beginning.
        memory: Where kept bytes are counted.
        weigh: Bytes of a message; one that has None cannot be kept.

    Attributes:
        kept: The messages, from the first.
        gone: How many were given out before and are kept no longer.
        ended: The stream has come to its end.
        broken: What the caller's iterator or serializer raised, or None.
    """

    def __init__(self, request: Request, memory: ReplayMemory, weigh: Callable[[Any], int | None] = len) -> None:
        self._weigh = weigh
        self.kept: list[bytes] = []
        self.gone = 0
        self.ended = False
        self.broken: BaseException | None = None
        self._request = request
        self._memory = memory
        self._size = 0
        self._guard = threading.RLock()

    def keep(self, message: bytes) -> None:
        """One more message was taken."""
        with self._guard:
            weight = self._weigh(message)
            if weight is not None and self._request.replayable and self._memory.take(weight, self._size):
                self.kept.append(message)
                self._size += weight
                return
            self.release()
            self.gone += len(self.kept) + 1
            self.kept = []

    def release(self) -> None:
        """Nobody will send them again; an attempt that has not sent all of them yet goes on from what is kept."""
        with self._guard:
            self._request.replayable = False
            self._memory.give(self._size)
            self._size = 0

    def follow(self, request: Request) -> None:
        """The RPC was begun anew, as ``request``: what cannot be sent from its beginning cannot be for that either."""
        with self._guard:
            request.replayable = self._request.replayable
            self._request = request

    def stop(self) -> None:
        """The call is over: ask the caller for no more."""

    def whole(self) -> list[bytes] | None:
        """All messages, when the stream has ended and all are kept."""
        return list(self.kept) if self.ended and self._request.replayable else None


class MessageReplay(KeptMessages):
    """A request stream from an iterator, on the blocking path.

    Args:
        source: The caller's; taken once, by whichever attempt is first.
        serialize: Makes bytes of a message.
        count: Is told the size of each message that is sent.
        request: Is told when the stream can no longer be sent from its beginning.
        memory: Where kept bytes are counted.
        weigh: See ``KeptMessages``.
    """

    def __init__(
        self,
        source: Iterator[Any],
        serialize: Callable[[Any], bytes],
        count: Callable[[int], None],
        request: Request,
        memory: ReplayMemory,
        weigh: Callable[[Any], int | None] = len,
    ) -> None:
        super().__init__(request, memory, weigh)
        self._source = source
        self._serialize = serialize
        self._count = count
        self._lock = threading.RLock()

    def messages(self) -> Iterator[bytes]:
        """The stream from its beginning."""
        return _Messages(self)

    def message(self, number: int) -> bytes:
        """The message of that number; one attempt at a time takes from the source.

        Raises:
            StopIteration: There are no more.
        """
        with self._lock:
            place = number - self.gone
            if 0 <= place < len(self.kept):
                return self._counted(self.kept[place])
            if self.ended:
                raise StopIteration
            try:
                message = self._serialize(next(self._source))
            except StopIteration:
                self.ended = True
                raise
            except BaseException as error:
                self.broken = error
                self.release()
                raise
            self.keep(message)
            return self._counted(message)

    def _counted(self, message: bytes) -> bytes:
        self._count((self._weigh(message) or 0) + FRAME)
        return message


class _Messages:
    __slots__ = ("_number", "_replay")

    def __init__(self, replay: MessageReplay) -> None:
        self._replay = replay
        self._number = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        message = self._replay.message(self._number)
        self._number += 1
        return message
