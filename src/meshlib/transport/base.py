"""The seam between the faces and the transports that move bytes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshlib.dataplane.outcome import Failure
from meshlib.dataplane.policies.gate import Gate, Ticket
from meshlib.model.policy import ConnectionPool

__all__ = [
    "AsyncBody",
    "BlockingTransport",
    "Body",
    "BreakOff",
    "CooperativeTransport",
    "Headers",
    "Target",
    "Timeouts",
    "WireError",
    "WireRequest",
    "WireResponse",
    "is_plain",
]

Headers = list[tuple[bytes, bytes]]
"""Names in the caller's case (lower-cased on HTTP/2), values as sent."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint and the way to it; equal targets share connections.

    Attributes:
        address: IP address, DNS name or ``unix:///path`` to dial, whatever host the request names.
        port: Port to dial; 0 for a unix socket.
        http2: Speak HTTP/2; else HTTP/1.1.
        http1_too: Under TLS only: offer HTTP/1.1 beside HTTP/2, and speak what the peer chooses (ALPN).
        tls: The context to wrap the connection with, None for plaintext. Compared by identity.
        server_name: TLS server name to send and, unless the context says otherwise, to check.
        settings: Connect timeout, idle time, limits.
        gate: Counts the connections of the cluster, where they are bounded, or who may wait for one; else None.
            Clusters with bounds of their own share no connections.
        lookup: Tells the IP addresses that ``address``, a name, stands for now; None leaves that to the system. It says
            nothing about which targets are equal: a connection is not given up because its name moved.
        mesh: It is mutual TLS of the mesh, which sidecars tell from an application's own by Istio's words (ALPN).
    """

    address: str
    port: int
    http2: bool = False
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    settings: ConnectionPool = ConnectionPool()
    http1_too: bool = False
    gate: Gate | None = None
    lookup: Callable[[], tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    mesh: bool = False
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Hash once; every request looks its pool up."""
        spoken = (self.http2, self.http1_too, self.mesh)
        parts = (self.address, self.port, self.tls, self.server_name, self.settings, spoken)
        object.__setattr__(self, "_hash", hash(parts))

    @property
    def addresses(self) -> tuple[str, ...]:
        """What to dial, in this order; the name itself where nobody knows what it stands for."""
        return (self.lookup() if self.lookup is not None else ()) or (self.address,)

    def __hash__(self) -> int:
        """As of all that is compared."""
        return self._hash


@dataclass(slots=True)
class Timeouts:
    """Seconds per socket operation, None is unbounded; ``deadline`` bounds them all.

    ``deadline`` is a moment on ``time.monotonic``: no operation of this exchange, reading the body included, may end
    after it. The owner may change it between headers and body; transports read it anew for each operation.
    """

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None
    deadline: float | None = None


@dataclass(slots=True)
class WireRequest:
    """What is sent.

    Attributes:
        method: For example ``b"GET"``.
        target: Path and query, as on the request line.
        scheme: ``b"http"`` or ``b"https"``, for HTTP/2's ``:scheme``.
        headers: Everything, ``Host`` included (it becomes ``:authority`` on HTTP/2).
        body: All of it, or chunks to send; None sends none. Framing follows the ``Content-Length`` or
            ``Transfer-Encoding`` header.
        timeouts: See ``Timeouts``.
        trace: httpcore-style trace hook of the caller, or None.
        upgrades: The connection may become something else than HTTP.
        break_off: Ends the exchange from another thread; a transport that cannot leaves it alone.
        ticket: Its place in the gate of the cluster; None where there is none.
    """

    method: bytes
    target: bytes
    scheme: bytes
    headers: Headers
    body: bytes | Iterable[bytes] | AsyncIterable[bytes] | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    trace: Any = None
    upgrades: bool = False
    break_off: BreakOff | None = None
    ticket: Ticket | None = None

    def awaits_connection(self) -> None:
        """None is at hand: until one carries it, it is pending.

        Raises:
            WireError: Too many are.
        """
        ticket = self.ticket
        if ticket is not None and not ticket.gate.awaits_connection(ticket):
            most = ticket.gate.max_pending
            raise WireError(Failure.OVERFLOW, f"{most} requests wait for a connection, {_THE_MOST}", sent=False)

    def has_connection(self) -> None:
        """One carries it from now on."""
        if self.ticket is not None:
            self.ticket.gate.has_connection(self.ticket)


_THE_MOST = "the most that are allowed"


class BreakOff:
    """Called from any thread, ends the one exchange that it belongs to, which then fails; later it does nothing."""

    __slots__ = ("_asked", "_hang_up", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._hang_up: Callable[[], None] | None = None
        self._asked = False

    def __call__(self) -> None:
        """End it, now or as soon as a connection carries it."""
        with self._lock:
            self._asked = True
            if self._hang_up is not None:
                self._hang_up()

    def carried(self, hang_up: Callable[[], None]) -> None:
        """A connection carries the exchange: ``hang_up`` makes its operations fail, and must not wait."""
        with self._lock:
            self._hang_up = hang_up
            if self._asked:
                hang_up()

    def over(self) -> None:
        """The exchange is over: the connection may carry another."""
        with self._lock:
            self._hang_up = None


def is_plain(request: WireRequest) -> bool:
    """Whether one request gets one response and nobody watches the wire: no CONNECT, no upgrade, no trace hook."""
    return not request.upgrades and request.trace is None and request.method != b"CONNECT"


class Body(Protocol):
    """A response body on the blocking path: iterate once, close always; closing early drops the connection."""

    def whole(self) -> bytes | None:
        """All of it, when it has come completely and nothing was taken yet; else None."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """The chunks, transfer coding removed, content coding kept; raises ``WireError``."""
        ...

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end. Idempotent."""
        ...


class AsyncBody(Protocol):
    """A response body on the cooperative path; see ``Body``."""

    def whole(self) -> bytes | None:
        """See ``Body.whole``."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks; raises ``WireError``."""
        ...

    async def aclose(self) -> None:
        """As ``Body.close``; completes even when the surrounding task is cancelled."""
        ...

    def abandon(self) -> None:
        """Drop the connection at once, without waiting; for responses that are garbage-collected."""
        ...


@dataclass(slots=True)
class WireResponse:
    """What came back.

    Attributes:
        status: Final status, 1xx skipped.
        headers: In the order and case received.
        body: A ``Body`` or an ``AsyncBody``.
        http_version: ``b"HTTP/1.1"`` or ``b"HTTP/2"``.
        reason: Reason phrase, empty on HTTP/2.
        extensions: Further facts for the face: ``network_stream``, ``stream_id``, and ``trailing_headers``, a list of
            names and values that is filled when the body has been read.
    """

    status: int
    headers: Headers
    body: Any
    http_version: bytes = b"HTTP/1.1"
    reason: bytes = b""
    extensions: dict[str, Any] = field(default_factory=dict)


class WireError(Exception):
    """The exchange failed on the wire.

    Attributes:
        failure: How.
        sent: Whether any byte of the request may have reached the peer. False makes a retry safe for every method.
    """

    def __init__(self, failure: Failure, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.failure = failure
        self.sent = sent


class BlockingTransport(Protocol):
    """Sends from threads. Safe to share between threads; reset in a forked child."""

    def send(self, target: Target, request: WireRequest) -> WireResponse:
        """Send on a pooled connection and return once the response headers are there.

        Raises:
            WireError: Whatever broke; cancellation and programming errors pass through.
        """
        ...

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """Nobody is to be sent there any more: close connections to these addresses and ports as they fall idle."""
        ...

    def tend(self) -> None:
        """See to connections that rest, of which no thread thinks: close those that are over, ask others (PING).

        To be called about once a second, from any one thread; never waits for a peer.
        """
        ...

    def close(self) -> None:
        """Close every connection. Idempotent."""
        ...


class CooperativeTransport(Protocol):
    """Sends from tasks, under asyncio or trio. Pools belong to the event loop they were made in.

    Attributes:
        keeps_deadlines: It ends every operation at the exchange's deadline by itself; else the driver cancels it.
    """

    keeps_deadlines: bool

    def send(self, target: Target, request: WireRequest) -> Coroutine[Any, Any, WireResponse]:
        """As ``BlockingTransport.send``; cancellation at any await leaves no connection behind."""
        ...

    def enter(self, user: object) -> None:
        """``user`` sends in the running event loop from now on."""
        ...

    async def leave(self, user: object) -> None:
        """``user`` is done in the running event loop; the last one out closes its connections."""
        ...

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """As ``BlockingTransport.retire``, in all event loops; from any thread, and soon."""
        ...

    async def aclose(self) -> None:
        """Close every connection of the running event loop. Idempotent."""
        ...
