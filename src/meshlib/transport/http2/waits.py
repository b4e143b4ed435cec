"""How long an exchange may wait, and what it means that it waited in vain."""

from __future__ import annotations

from time import monotonic

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Timeouts, WireError

__all__ = ["due", "timed_out"]

_TIMED_OUT = {
    Failure.READ_TIMEOUT: "nothing came within the read timeout",
    Failure.CONNECT_TIMEOUT: "the peer did not begin to speak HTTP/2 in time",
    Failure.WRITE_TIMEOUT: "the peer took nothing within the write timeout",
    Failure.DEADLINE: "the timeout ran out",
}


def due(timeouts: Timeouts, limit: float | None, failure: Failure) -> tuple[float | None, Failure]:
    """The moment when an operation of at most ``limit`` seconds has waited too long, and what that is called."""
    deadline = timeouts.deadline
    if limit is None:
        return deadline, Failure.DEADLINE
    moment = monotonic() + limit
    return (moment, failure) if deadline is None or moment < deadline else (deadline, Failure.DEADLINE)


def timed_out(failure: Failure) -> WireError:
    """That moment has come."""
    return WireError(failure, _TIMED_OUT[failure], sent=failure is not Failure.CONNECT_TIMEOUT)
