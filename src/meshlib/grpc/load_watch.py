"""Load reports that endpoints are asked for out of band: a stream beside the RPCs of each real channel.

An endpoint that has no such service is asked once; one that fails is asked again, after a second and then ever later.
The stream ends with the real channel, or when the endpoint has left. Source: gRFC A51, ``xds.service.orca.v3``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from meshlib.clock import Clock
from meshlib.dataplane.balancing.client_weights import take_report
from meshlib.dataplane.balancing.load_report import decode
from meshlib.dataplane.state import EndpointState
from meshlib.grpc.load_service import METHOD
from meshlib.grpc.subchannels import Subchannel
from meshlib.model.policy import LoadReports

__all__ = ["LoadWatch", "request_of"]

_LONGEST = 60.0
"""Seconds between two streams to an endpoint that fails."""


def request_of(seconds: float) -> bytes:
    """An ``OrcaLoadReportRequest`` for a report every so many seconds."""
    whole = int(seconds)
    duration = b"\x08" + _varint(whole) + b"\x10" + _varint(round((seconds - whole) * 1e9))
    return b"\x0a" + _varint(len(duration)) + duration


class LoadWatch:
    """Listens to one endpoint.

    Args:
        state: Where its reports count.
        settings: How; ``out_of_band`` is set.
        subchannel: Its real channel.
        clock: The mesh's.
    """

    def __init__(self, state: EndpointState, settings: LoadReports, subchannel: Subchannel, clock: Clock) -> None:
        self._state = state
        self._settings = settings
        self._subchannel = subchannel
        self._clock = clock
        self._failures = 0

    def run(self) -> None:
        """In a thread of its own, until there is nobody to listen to."""
        while self._serves():
            try:
                for message in self._begin():
                    self._take(message)
            except grpc.RpcError as error:
                if self._is_hopeless(error):
                    return
            except ValueError:  # the real channel is closed
                return
            self._clock.sleep(self._rest())

    async def arun(self) -> None:
        """In a task of the real channel's event loop."""
        while self._serves():
            try:
                async for message in self._begin():
                    self._take(message)
            except grpc.RpcError as error:
                if self._is_hopeless(error):
                    return
            except grpc.aio.UsageError:  # the real channel is closed
                return
            except asyncio.CancelledError:
                if self._serves():
                    raise
                return
            await self._clock.asleep(self._rest())

    def _begin(self) -> Any:
        stub = self._subchannel.stub("unary_stream", METHOD, False)
        return stub(request_of(self._settings.out_of_band or 0.0))

    def _serves(self) -> bool:
        return not self._subchannel.retired and self._state.left_at is None

    def _take(self, message: bytes) -> None:
        self._failures = 0
        try:
            report = decode(message)
        except (ValueError, IndexError):
            return
        take_report(self._state, self._settings, report, self._clock.now())

    def _is_hopeless(self, error: Any) -> bool:
        return bool(error.code() is grpc.StatusCode.UNIMPLEMENTED) or not self._serves()

    def _rest(self) -> float:
        self._failures += 1
        return float(min(_LONGEST, 2.0 ** (self._failures - 1)))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
