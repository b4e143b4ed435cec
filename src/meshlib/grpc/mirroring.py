"""Copies of RPCs go where the rule says; nobody waits for their answers.

A copy of a stream is sent when the stream was sent whole and was kept, with what a mirrored request keeps: its route's
timeout, no retries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from meshlib.dataplane import router
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import blocking
from meshlib.grpc.rpc import authority_of, metadata_of
from meshlib.grpc.unary import Sent, UnaryExchange
from meshlib.grpc.ways import Ways

__all__ = ["mirror_stream", "mirror_unary"]


def mirror_unary(ways: Ways, call: Call, content: bytes, sent: Sent) -> None:
    """Send the copies of an RPC with one message out."""
    mirror_stream(ways, call, [content], sent)


def mirror_stream(ways: Ways, call: Call, messages: list[bytes], sent: Sent) -> None:
    """Send the copies of a stream that is at hand."""
    mesh = ways.mesh
    for copy in router.copies(call, mesh.clock.now(), mesh.rng):
        mesh.mirrors.in_thread(partial(_send, ways, copy, messages, sent))


def _send(ways: Ways, copy: Call, messages: list[bytes], sent: Sent) -> None:
    exchange = _Copy(ways, copy, messages, sent)
    blocking.drive(copy, exchange, ways.mesh.clock)


class _Copy(UnaryExchange):
    """Sends all messages and reads whatever comes."""

    def __init__(self, ways: Ways, copy: Call, messages: list[bytes], sent: Sent) -> None:
        super().__init__(ways, copy, b"".join(messages), sent)
        self._messages = messages

    def send(self, call: Call, attempt: Any) -> Any:
        """See ``Exchange.send``."""
        target, headers = call.head(attempt)
        sent, ways = self.sent, self.ways
        timeout = None if attempt.deadline is None else attempt.deadline - self._clock.now()
        subchannel, pool = ways.subchannel(attempt, authority_of(headers, ways.service.authority)), ways.pool()
        pool.keep(subchannel)  # nobody waits for the copy: closing the mesh channel does not end it
        request: Any = iter(self._messages) if sent.kind.startswith("stream") else self._messages[0]
        try:
            stub = subchannel.stub(sent.kind, target, sent.registered)
            if sent.kind.endswith("unary"):
                return stub.with_call(request, timeout, metadata_of(headers), sent.credentials)
            rpc = stub(request, timeout, metadata_of(headers), sent.credentials)
            return b"".join(_all(rpc)), rpc
        finally:
            subchannel.leave()
            pool.release(subchannel)


def _all(rpc: Any) -> Iterator[bytes]:
    yield from rpc
