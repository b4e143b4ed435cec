"""What one connection counts for, from the pick of its endpoint until it is closed."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Endpoint
from meshlib.model.tcp import TcpRoute
from meshlib.transport.tls import TlsUnavailable

if TYPE_CHECKING:
    from meshlib.tcp.watch import Watch

__all__ = ["Lease", "outcome_of"]


class Lease:
    """An endpoint for one connection, and the permits that it holds there; a context manager.

    Attributes:
        endpoint: Where to connect to, as discovery describes it.
        cluster: Whose policies hold; None for a host that the mesh does not know.
        idle_timeout: Seconds without a byte after which the connection is to be closed, or None.
        max_duration: Seconds after which it is to be closed whatever it does, or None.

    Leaving the block ends the lease. An ``OSError`` that leaves it before ``connected`` was called counts against the
    endpoint as a connection that could not be made; everything else says nothing about it. One that is dropped ends as
    well, so keep it as long as its connection.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_call",
        "_clock",
        "_ended",
        "_heard",
        "_pid",
        "_shut",
        "_since",
        "_watch",
        "cluster",
        "endpoint",
        "idle_timeout",
        "max_duration",
    )

    def __init__(
        self, endpoint: Endpoint, way: TcpRoute | None, call: Call | None, attempt: Attempt | None, watch: Watch
    ) -> None:
        self.endpoint = endpoint
        self.cluster: Cluster | None = attempt.cluster if attempt is not None else None
        self.idle_timeout = way.idle_timeout if way is not None else None
        self.max_duration = way.max_duration if way is not None else None
        self._call = call
        self._attempt = attempt
        self._clock: Clock = watch.clock
        self._watch = watch
        self._shut: Callable[[], Any] | None = None
        self._since: float | None = None
        self._heard = 0.0
        self._ended = False
        self._pid = os.getpid()

    @property
    def address(self) -> str:
        """What to dial: an IP address, a name, or ``unix:///path``."""
        return self.endpoint.address

    @property
    def port(self) -> int:
        """The port to dial; 0 for a unix socket."""
        return self.endpoint.port

    @property
    def ended(self) -> bool:
        """Whether it counts no more."""
        return self._ended

    def __repr__(self) -> str:
        """For logs and test output."""
        state = "ended" if self._ended else "connected" if self._since is not None else "picked"
        return f"<Lease {self.endpoint.key} {state}>"

    # Its life -------------------------------------------------------------------------------------------------------

    def connected(self, shut: Callable[[], Any] | None = None) -> None:
        """The connection stands; its idle time and its duration begin. Idempotent.

        Args:
            shut: Ends the connection when its time is over; must neither raise nor wait. None leaves that to you.
        """
        if self._since is not None or self._ended:
            return
        now = self._since = self._heard = self._clock.now()
        self._shut = shut
        if self._call is not None and self._attempt is not None:
            self._call.connected(self._attempt, now)
        self._watch.add(self)

    def failed(self, error: BaseException) -> float | None:
        """No connection could be made; the permits go back.

        Returns:
            Seconds to wait before another endpoint is asked for, or None when it stays at that.
        """
        self._ended = True
        if self._call is None or self._attempt is None:
            return None
        return self._call.settle(self._attempt, outcome_of(error), self._clock.now())

    def moved(self, *, sent: int = 0, received: int = 0) -> None:
        """So many bytes went either way."""
        self._heard = self._clock.now()
        if self._call is not None:
            self._call.request_bytes += sent
            self._call.response_bytes += received

    def close(self) -> None:
        """The connection is over. Idempotent, from any thread; a forked child's copy gives nothing back."""
        if self._ended:
            return
        self._ended = True
        self._watch.drop(self)
        if self._call is not None and self._pid == os.getpid():
            self._call.close(self._clock.now())

    def __del__(self) -> None:
        """Somebody let go of it, and of the connection that it counted for."""
        if not getattr(self, "_ended", True):
            self.close()

    def __enter__(self) -> Lease:
        """The lease."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Over."""
        if self._since is None and not self._ended:
            if isinstance(error, OSError):
                self.failed(error)
            elif error is None:
                self.connected()
        self.close()

    # What the watch asks --------------------------------------------------------------------------------------------

    @property
    def due(self) -> float | None:
        """When its time is over, unless more bytes move; None for never."""
        assert self._since is not None
        idle = None if self.idle_timeout is None else self._heard + self.idle_timeout
        longest = None if self.max_duration is None else self._since + self.max_duration
        return min((moment for moment in (idle, longest) if moment is not None), default=None)

    def tell(self, now: float) -> None:
        """Have the bytes so far counted."""
        if self._call is not None and not self._ended:
            self._call.bytes_moved(now)

    def expire(self) -> None:
        """End the connection: both sides see it closed, and whoever does finds it counted no more."""
        shut, self._shut = self._shut, None
        self.close()
        if shut is not None:
            with contextlib.suppress(OSError):
                shut()


def outcome_of(error: BaseException) -> Outcome:
    """What an exception says about the endpoint that was dialled."""
    if isinstance(error, TlsUnavailable):  # our own configuration, not the endpoint's doing
        return Outcome.of_failure(Failure.LOCAL, error, sent=False)
    if isinstance(error, ssl.SSLError):
        return Outcome.of_failure(Failure.TLS, error, sent=False)
    if isinstance(error, TimeoutError):
        return Outcome.of_failure(Failure.CONNECT_TIMEOUT, error, sent=False)
    if isinstance(error, OSError | socket.gaierror):
        return Outcome.of_failure(Failure.CONNECT, error, sent=False)
    failure = Failure.LOCAL if isinstance(error, Exception) else Failure.CANCELLED
    return Outcome.of_failure(failure, error, sent=False)
