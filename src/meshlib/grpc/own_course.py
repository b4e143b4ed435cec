"""A course whose attempts go over the application's own channel: to the next interceptor, as messages, not bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from meshlib.dataplane.attempt import Attempt
from meshlib.dataplane.call import Call
from meshlib.grpc.blocking_course import BlockingCourse
from meshlib.grpc.message_replay import MessageReplay
from meshlib.grpc.own_channel import OwnWays, size_of
from meshlib.grpc.rpc import metadata_of
from meshlib.grpc.unary import FRAME, Sent

__all__ = ["Details", "OwnCourse"]


class _DetailsBase(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class Details(_DetailsBase, grpc.ClientCallDetails):  # type: ignore[misc]
    """What the next interceptor, or the channel, is told of an attempt."""


class OwnCourse(BlockingCourse):
    """See the module.

    Args:
        ways: Of the interceptor.
        kind: Of the method.
        begin: Routes the RPC.
        source: The one message, or the stream.
        details: What the application asked for.
        proceed: Sends an attempt: grpcio's continuation.
    """

    weigh = staticmethod(size_of)

    def __init__(
        self,
        ways: OwnWays,
        kind: str,
        begin: Callable[[], Call],
        source: Any,
        details: Any,
        proceed: Callable[[Any, Any], Any],
    ) -> None:
        self._details = details
        self._proceed = proceed
        own: Any = ways  # all of ``Ways`` that a course asks for besides subchannels
        super().__init__(own, Sent(kind, False, None, None, False), begin, source)

    def dial(self, attempt: Attempt) -> tuple[Any, Any]:
        """See ``Course``; where the application waits for the response, so does this."""
        call, given, source = self.call, self._details, self.source
        method, headers = call.head(attempt)
        request: Any = source
        if isinstance(source, MessageReplay):
            request = source.messages()
        else:
            call.request_bytes += (size_of(source) or 0) + FRAME
            call.request_messages += 1
        bounded = attempt.deadline_is_overall or not self.sent.kind.endswith("stream")
        until = attempt.deadline if bounded else call.deadline
        timeout = None if until is None else max(0.0, until - self.clock.now())
        waits, packs = getattr(given, "wait_for_ready", None), getattr(given, "compression", None)
        told = Details(method, timeout, metadata_of(headers), given.credentials, waits, packs)
        return self._proceed(told, request), None

    def watch(self, real: Any) -> None:
        """See ``Course``; what the application waits for is over already."""
        done = getattr(real, "done", None)
        if done is not None and done():
            self.over(real)
        else:
            super().watch(real)
