"""One HTTP/2 connection of a client, sans-IO: streams opened, fed and ended, windows kept, good-byes understood.

Two windows bound what a peer may send. That of a stream is given back as the caller takes the body, which makes a peer
wait for a slow caller; that of the connection is given back at once, so that a slow caller never holds up the others.
What may wait in memory is therefore ``WINDOW`` for each stream.

Source: RFC 9113. ``h2`` keeps the states of streams and the compression of headers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from hpack import HPACKError

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Headers, WireError
from meshlib.transport.http1.writer import refused
from meshlib.transport.http2.frames import MAX_HEADERS, Frames, GoAway, Malformed
from meshlib.transport.http2.head import announced
from meshlib.transport.http2.stream import Stream
from meshlib.transport.http2.wire import SHARED_WINDOW, WINDOW, begun, name, plain, status

__all__ = ["Session"]

_MANY = 2000
"""Pieces of a body that wait one by one; more are joined, so that small pieces cost no more than they weigh."""

_PING = b"meshlib."


class Session:
    """The state of a connection. Whoever calls sends ``outgoing`` afterwards.

    Args:
        most: Streams at once that the configuration allows; None leaves it to the peer.
        now: The present moment.
        left: Called when a stream has left the connection, or the peer changed what it allows.

    Attributes:
        streams: Those under way, by number.
        going: What the peer's GOAWAY said; then no stream can be opened.
        broken: What ended the connection.
        is_greeted: The peer's settings have come, so that it speaks HTTP/2, and how many streams it allows is known.
        pinged: A PING waits for its answer.
    """

    def __init__(self, most: int | None, now: float, left: Callable[[], None]) -> None:
        self.streams: dict[int, Stream] = {}
        self.going: GoAway | None = None
        self.broken: WireError | None = None
        self.is_greeted = self.pinged = False
        self._most = most
        self._left = left
        self._limit = 0
        self._newest = self._flushed = 0
        self._owed = 0
        self._frames = Frames(now)
        self._wire = begun()

    # What goes out --------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another stream can be opened."""
        return len(self.streams) < self._limit and self.going is None and self.broken is None

    @property
    def is_closed_to_all(self) -> bool:
        """No stream will be possible ever again."""
        return (self._limit == 0 and self.is_greeted) or self.going is not None

    def check(self) -> None:
        """Raise why a connection that was just made is of no use.

        Raises:
            WireError: It is gone already, or the peer takes no streams; nothing was sent.
        """
        if self.is_closed_to_all:
            raise WireError(Failure.REFUSED_STREAM, "the peer takes no streams", sent=False)
        if self.broken is not None:
            raise WireError(self.broken.failure, str(self.broken), sent=False)

    def window(self, stream: Stream) -> int:
        """Bytes of a body that may be sent now."""
        return self._wire.local_flow_control_window(stream.id)

    def open(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        """Begin ``stream``; ``end`` when there is no body.

        Raises:
            WireError: There is no room, or the headers announce a body that there is not; nothing was sent.
        """
        stream.left = announced(headers)
        if end and stream.left:
            raise refused("the body is shorter than its Content-Length")
        if not self.has_room:
            raise WireError(Failure.REFUSED_STREAM, "the connection takes no more streams", sent=False)
        wire = self._wire
        try:
            number = wire.get_next_available_stream_id()
            wire.send_headers(number, headers, end_stream=end)
        except H2Error as error:
            self._limit = 0  # numbers have run out
            raise WireError(Failure.REFUSED_STREAM, f"no stream could be opened: {error}", sent=False) from error
        stream.id = self._newest = number
        stream.is_written = end
        self.streams[number] = stream

    def send(self, stream: Stream, data: memoryview) -> int:
        """Send as much of a body as windows and frames hold, and say how much that was; 0 until the peer takes more.

        Raises:
            WireError: It is more than the headers announced.
        """
        if stream.left is not None and len(data) > stream.left:
            raise refused("the body is longer than its Content-Length", sent=True)
        wire = self._wire
        room = min(wire.local_flow_control_window(stream.id), wire.max_outbound_frame_size, len(data))
        if room <= 0:
            return 0
        wire.send_data(stream.id, bytes(data[:room]))
        if stream.left is not None:
            stream.left -= room
        self._frames.excuse()
        return room

    def finish(self, stream: Stream) -> None:
        """The request is over: whole, or cut short by what the peer did.

        Raises:
            WireError: It is shorter than its headers announced.
        """
        if stream.id not in self.streams:
            return
        if stream.stops_request:
            stream.is_cut = True
        elif stream.left:
            raise refused("the body is shorter than its Content-Length", sent=True)
        else:
            stream.is_written = True
            self._wire.end_stream(stream.id)
        self._leave_if_over(stream)

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the rest of it; the other streams go on."""
        if self.streams.pop(stream.id, None) is not None:
            self._reset(stream)
            self._left()

    def take(self, stream: Stream, size: int) -> bool:
        """The caller took ``size`` bytes of a body; whether there is something to send, which lets the peer go on."""
        stream.taken += size
        if stream.taken < WINDOW // 2 or stream.id not in self.streams or stream.complete:
            return False
        self._wire.increment_flow_control_window(stream.taken, stream.id)
        stream.owed -= stream.taken
        stream.taken = 0
        return True

    def ping(self) -> None:
        """Ask whether the peer is there; ``pinged`` until it says so."""
        self.pinged = True
        self._wire.ping(_PING)

    def say_goodbye(self, *, malformed: bool = False) -> None:
        """Tell the peer that this is the end."""
        try:
            self._wire.close_connection(ErrorCodes.PROTOCOL_ERROR if malformed else ErrorCodes.NO_ERROR)
        except H2Error:  # it has been told already
            return

    def outgoing(self) -> bytes:
        """What is to be sent, in this order; each byte once."""
        data = self._wire.data_to_send()
        if data:
            self._flushed = self._newest
        return data

    # What comes in --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take in what the peer sent.

        Raises:
            Malformed: It is no HTTP/2, or meant to hurt; ``fail`` is to follow.
        """
        try:
            for piece in self._frames.feed(data, now):
                if isinstance(piece, GoAway):
                    self._go_away(piece)
                    continue
                for event in self._wire.receive_data(piece):
                    hear = _HEARD.get(type(event))
                    if hear is not None:
                        hear(self, event)
        except (H2Error, HPACKError) as error:
            raise Malformed(str(error) or type(error).__name__) from error

    def fail(self, failure: Failure, message: str) -> None:
        """The connection is of no use any more, and neither are its streams."""
        if self.broken is None:
            self.broken = WireError(failure, message, sent=False)
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            self._break(stream, WireError(failure, message, sent=stream.id <= self._flushed))
        if streams:
            self._left()

    def end(self, why: str = "") -> None:
        """The peer closed the connection."""
        going = self.going
        if going is not None and going.code:
            why = f"GOAWAY {name(going.code)} {going.message}".rstrip()
        reason = f" ({why})" if why else ""
        self.fail(Failure.CLOSED, f"the peer closed the connection before the response was complete{reason}")

    def wake_all(self) -> None:
        """Something happened that may concern every stream."""
        for stream in self.streams.values():
            stream.wake()

    def _go_away(self, going: GoAway) -> None:
        """Streams above the last one were never acted upon; the others go on."""
        if self.going is not None and going.last_stream > self.going.last_stream:
            raise Malformed("a GOAWAY that takes back another")
        self.going = going
        for stream in [each for number, each in self.streams.items() if number > going.last_stream]:
            del self.streams[stream.id]
            text = f"the peer went away ({name(going.code)}) before it took the request"
            self._break(stream, WireError(Failure.REFUSED_STREAM, text, sent=False))
        self._left()

    def _on_response(self, event: ResponseReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.status, stream.headers = status(event.headers), plain(event.headers)
            stream.answered = True
            stream.wake()

    def _on_interim(self, event: InformationalResponseReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        interim = status(event.headers)
        stream.interim += sum(len(key) + len(value) + 32 for key, value in event.headers)
        if interim == 101 or stream.interim > MAX_HEADERS:
            raise Malformed("an upgrade, which HTTP/2 has not" if interim == 101 else "endless interim responses")
        if interim == 100:
            stream.continued = True
            stream.wake()

    def _on_data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length
        self._owed += size
        if self._owed >= SHARED_WINDOW // 2:
            self._wire.increment_flow_control_window(self._owed)
            self._owed = 0
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        stream.owed += size
        stream.taken += size - len(event.data)
        if event.data:
            stream.chunks.append(event.data)
            if len(stream.chunks) > _MANY:
                stream.chunks[:] = [b"".join(stream.chunks)]
            stream.wake()

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.trailers += plain(event.headers)

    def _on_end(self, event: StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.complete = True
            self._leave_if_over(stream)
            stream.wake()

    def _on_reset(self, event: StreamReset) -> None:
        stream = self.streams.pop(event.stream_id, None)
        if stream is None:
            return
        if stream.complete:  # the peer wants no more of the request
            stream.wake()
        elif event.error_code == ErrorCodes.REFUSED_STREAM:
            self._break(stream, WireError(Failure.REFUSED_STREAM, "the peer refused the stream", sent=False))
        else:
            text = f"the peer reset the stream ({name(event.error_code)})"
            self._break(stream, WireError(Failure.RESET, text, sent=True))
        self._left()

    def _on_window(self, event: WindowUpdated) -> None:
        if not event.stream_id:
            self.wake_all()
        elif (stream := self.streams.get(event.stream_id)) is not None:
            stream.wake()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        """The peer may allow more streams or fewer, and larger windows."""
        allowed = self._wire.remote_settings.max_concurrent_streams
        self.is_greeted = True
        self._limit = allowed if self._most is None else min(allowed, self._most)
        self.wake_all()
        self._left()

    def _on_pong(self, event: PingAckReceived) -> None:
        self.pinged = False

    def _leave_if_over(self, stream: Stream) -> None:
        if stream.complete and (stream.is_written or stream.is_cut):
            del self.streams[stream.id]
            if stream.is_cut:
                self._reset(stream)
            self._left()

    def _reset(self, stream: Stream) -> None:
        try:
            self._wire.reset_stream(stream.id, ErrorCodes.CANCEL)
        except H2Error:  # it has ended meanwhile
            return

    @staticmethod
    def _break(stream: Stream, error: WireError) -> None:
        if stream.error is None and not stream.complete:
            stream.error = error
        stream.wake()


_HEARD: dict[type[Event], Callable[[Session, Any], None]] = {
    ResponseReceived: Session._on_response,
    InformationalResponseReceived: Session._on_interim,
    DataReceived: Session._on_data,
    TrailersReceived: Session._on_trailers,
    StreamEnded: Session._on_end,
    StreamReset: Session._on_reset,
    WindowUpdated: Session._on_window,
    RemoteSettingsChanged: Session._on_settings,
    PingAckReceived: Session._on_pong,
}
