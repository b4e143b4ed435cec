"""Response bodies that end their call: at their end, when closed, or when dropped and collected; once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio

from meshlib.dataplane.outcome import Failure
from meshlib.exchange import AsyncCallExchange, CallExchange
from meshlib.transport.base import WireError, WireResponse

__all__ = ["CountedAsyncBody", "CountedBody"]


class CountedBody:
    """A response body that ends its call: at its end, when closed, or when dropped; once."""

    def __init__(self, exchange: CallExchange, reply: WireResponse) -> None:
        assert exchange.call is not None
        self._exchange = exchange
        self._call = exchange.call
        self._body = reply.body
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        """The chunks as they came."""
        call = self._call
        try:
            for chunk in self._body:
                call.response_bytes += len(chunk)
                yield chunk
        except WireError as error:
            outcome = self._exchange.broken(error)
            call.close(self._exchange.clock.now(), outcome)
            raise self._exchange.error(call, outcome) from error
        self._exchange.ended(call, self._body)

    def close(self) -> None:
        """Give the connection back and end the call; early, the connection is dropped."""
        if self._open:
            self._open = False
            self._call.abandon(self._exchange.clock.now())
            self._body.close()

    def __del__(self) -> None:
        """Somebody let go of the response without reading or closing it."""
        if getattr(self, "_open", False):
            self._open = False
            self._call.abandon(self._exchange.clock.now())
            self._body.abandon()


class CountedAsyncBody:
    """The cooperative twin of ``CountedBody``; each read is bounded by the call's deadline."""

    def __init__(self, exchange: AsyncCallExchange, reply: WireResponse) -> None:
        assert exchange.call is not None
        self._exchange = exchange
        self._call = exchange.call
        self._body = reply.body
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks as they came."""
        call, clock = self._call, self._exchange.clock
        chunks = aiter(self._body)
        try:
            while True:
                try:
                    chunk = await self._next(chunks)
                except StopAsyncIteration:
                    break
                call.response_bytes += len(chunk)
                yield chunk
        except WireError as error:
            outcome = self._exchange.broken(error)
            call.close(clock.now(), outcome)
            raise self._exchange.error(call, outcome) from error
        self._exchange.ended(call, self._body)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        deadline = self._call.deadline
        if deadline is None or self._exchange.keeps_deadlines:
            return await anext(chunks)
        with anyio.move_on_after(deadline - self._exchange.clock.now()):
            return await anext(chunks)
        raise WireError(Failure.DEADLINE, "the timeout ran out while reading the response", sent=True)

    async def aclose(self) -> None:
        """Give the connection back and end the call; early, the connection is dropped."""
        if self._open:
            self._open = False
            self._call.abandon(self._exchange.clock.now())
            await self._body.aclose()

    def __del__(self) -> None:
        """Somebody let go of the response without reading or closing it."""
        if getattr(self, "_open", False):
            self._open = False
            self._call.abandon(self._exchange.clock.now())
            self._body.abandon()
