"""What is known of one exchange on a connection that carries many; sans-IO."""

from __future__ import annotations

from collections.abc import Callable

from meshlib.transport.base import Headers, Timeouts, WireError, WireResponse

__all__ = ["Stream"]


class Stream:
    """One exchange, and the body of its response.

    Attributes:
        id: Its number; 0 before it is opened.
        timeouts: The exchange's.
        status: Final status; 0 before the headers are there.
        headers: Of the response.
        trailers: Filled when the response is complete.
        chunks: Bytes that came and were not taken.
        owed: Bytes that the peer's window for this stream lacks.
        taken: How many of these the caller has taken, so that they may be given back.
        interim: Bytes of interim headers that came.
        left: Bytes of the request's body that were announced and not sent; None where nothing was announced.
        continued: The peer said ``100 Continue``.
        answered: The headers are there.
        complete: The response is whole.
        is_written: The request is whole.
        is_cut: The request will never be whole; the stream is reset once the response is.
        error: What broke it.
        wake: Called when something happened.
    """

    __slots__ = (
        "answered",
        "chunks",
        "complete",
        "continued",
        "error",
        "headers",
        "id",
        "interim",
        "is_cut",
        "is_written",
        "left",
        "owed",
        "status",
        "taken",
        "timeouts",
        "trailers",
        "wake",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self.id = 0
        self.timeouts = timeouts
        self.status = 0
        self.headers: Headers = []
        self.trailers: Headers = []
        self.chunks: list[bytes] = []
        self.owed = self.taken = self.interim = 0
        self.left: int | None = None
        self.continued = self.answered = self.complete = self.is_written = self.is_cut = False
        self.error: WireError | None = None
        self.wake: Callable[[], None] = _nobody

    @property
    def stops_request(self) -> bool:
        """Whether the rest of the request is for nobody: there is all of an answer, an error, or nobody any more."""
        return self.complete or self.is_cut or self.error is not None or (self.answered and self.status >= 400)

    def response(self, body: object, connection: object) -> WireResponse:
        """The answer, once the headers are there."""
        extensions = {
            "http_version": b"HTTP/2",
            "reason_phrase": b"",
            "network_stream": connection,
            "stream_id": self.id,
            "trailing_headers": self.trailers,
        }
        return WireResponse(self.status, self.headers, body, b"HTTP/2", b"", extensions)

    def whole(self) -> bytes | None:
        """All of a body that is complete and of which nothing was taken, else None."""
        if not self.complete:
            return None
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body


def _nobody() -> None:
    """Nobody waits."""
