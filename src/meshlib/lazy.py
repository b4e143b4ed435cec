"""Responses whose body has come: what the library would build of them is made when somebody asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from meshlib.outgoing import Outgoing
from meshlib.transport.base import Headers

__all__ = ["LazyResponse", "ReadyResponse"]


_ORDINARY = ("default_encoding", "is_closed", "is_stream_consumed", "next_request")


class LazyResponse:
    """Mixed into the library's ``Response``: headers, request and stream are made when somebody asks."""

    _headers_type: Any
    _stream_type: Any
    next_request: Any = None
    default_encoding: Any = "utf-8"
    is_closed = is_stream_consumed = True
    _took = 0.0

    def __init__(self, status: int, raw: Headers, content: bytes, given: Outgoing, extensions: dict[str, Any]) -> None:
        self.status_code = status
        self.extensions = extensions
        self.history: list[Any] = []
        self._num_bytes_downloaded = len(content)
        self._content = content
        self._raw = raw
        self._given = given
        self._made: dict[str, Any] = {}

    @property
    def headers(self) -> Any:
        """The library's header map."""
        if "headers" not in self._made:
            self._made["headers"] = self._headers_type(self._raw)
        return self._made["headers"]

    @headers.setter
    def headers(self, value: Any) -> None:
        self._made["headers"] = value

    @property
    def request(self) -> Any:
        """The library's request."""
        if "request" not in self._made:
            self._made["request"] = self._given.request
        return self._made["request"]

    @request.setter
    def request(self, value: Any) -> None:
        self._made["request"] = value

    _request = request
    """Under the library's own name too, which it reads past the property."""

    @property
    def stream(self) -> Any:
        """What the body came as; it has been read."""
        return self._made["stream"] if "stream" in self._made else self._stream_type(self._content)

    @stream.setter
    def stream(self, value: Any) -> None:
        self._made["stream"] = value

    @property
    def elapsed(self) -> timedelta:
        """From the call to the end of the response."""
        return self._made["elapsed"] if "elapsed" in self._made else timedelta(seconds=self._took)

    @elapsed.setter
    def elapsed(self, value: timedelta) -> None:
        self._made["elapsed"] = value

    def __getstate__(self) -> dict[str, Any]:
        """As the library pickles: without stream and extensions."""
        left_out = ("extensions", "_body", "_given", "_made", "_raw", "_took")
        kept = {name: value for name, value in self.__dict__.items() if name not in left_out}
        kept |= {name: getattr(self, name) for name in _ORDINARY}
        return {**kept, "headers": self.headers, "request": self.request, "elapsed": self.elapsed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._made, self._raw, self.extensions = {}, [], {}
        for name, value in state.items():
            setattr(self, name, value)


class ReadyResponse(LazyResponse):
    """Mixed in for a transport: the library has yet to read it, which finds the body there.

    It may be streamed as well, as any response of a transport.
    """

    def __init__(
        self, status: int, raw: Headers, content: bytes, given: Outgoing, extensions: dict[str, Any], took: float
    ) -> None:
        super().__init__(status, raw, content, given, extensions)
        del self._content
        self.is_closed = self.is_stream_consumed = False
        self._num_bytes_downloaded = 0
        self._body = content
        self._took = took

    def read(self) -> bytes:
        """The body; the library's own stream around it, which holds the response in turn, is let go."""
        if not hasattr(self, "_content"):
            if self.is_stream_consumed or self.is_closed:
                return bytes(super().read())  # type: ignore[misc]  # the library says what is wrong with that
            self._content = self._body
            self._num_bytes_downloaded = len(self._body)
            self.is_closed = self.is_stream_consumed = True
            self._made.pop("stream", None)
        return self._content

    async def aread(self) -> bytes:
        """The body."""
        return self.read()

    @property
    def stream(self) -> Any:
        """What the body comes as."""
        return self._made["stream"] if "stream" in self._made else self._stream_type(self._body)

    @stream.setter
    def stream(self, value: Any) -> None:
        self._made["stream"] = value
