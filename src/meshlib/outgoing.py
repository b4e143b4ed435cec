"""Requests as the faces hand them in: one that the host library built, or the short form of one that it need not build.

Both say the same to an exchange: what the core routes by (``core``), what goes on the wire, and, where somebody asks
(an error, a hook), the host library's request itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from meshlib.clock import wall
from meshlib.dataplane.request import Request, is_grpc
from meshlib.transport.base import Headers, Timeouts

__all__ = ["Built", "Outgoing", "Short", "Split", "split_url"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Outgoing(Protocol):
    """A request on its way out.

    Attributes:
        core: What the core routes by.
        method: As on the request line.
        content: The whole body; None when there is none, or when it is a stream.
        streamed: The body is a stream that can be taken once.
        timeouts: Those of the caller.
        trace: httpcore-style trace hook, or None.
        upgrades: The connection may become something else than HTTP.
        request: The host library's request.
    """

    core: Request
    method: bytes
    content: bytes | None
    streamed: bool
    timeouts: Timeouts
    trace: Any
    upgrades: bool

    @property
    def request(self) -> Any:
        """The host library's request, made at first use where it was not made before."""
        ...


class Built:
    """A request that the host library built; nothing of it is converted."""

    __slots__ = ("content", "core", "method", "request", "streamed", "timeouts", "trace", "upgrades")

    def __init__(self, request: Any, fixed_body: type[Any]) -> None:
        self.request = request
        url, raw, extensions = request.url, request.headers.raw, request.extensions
        authority, grpc, framed, self.upgrades = "", False, False, False
        for name, value in raw:
            lower = name.lower()
            if lower == b"host":
                authority = value.decode("latin-1")
            elif lower in _FRAMING:
                framed = True
            elif lower == b"content-type":
                grpc = is_grpc(value)
            elif lower == b"upgrade":
                self.upgrades = True
        fixed = isinstance(request.stream, fixed_body)
        # A body without framing is refused where it would be sent; httpx frames each of these methods.
        self.content = b"".join(request.stream) if fixed and (framed or request.method in _FRAMED) else None
        self.streamed = not fixed
        self.method = request.method.encode("ascii")
        self.timeouts = _timeouts(extensions.get("timeout") or {})
        self.trace = extensions.get("trace")
        scheme, path = url.scheme, url.raw_path.decode("ascii")
        port = url.port or _DEFAULT_PORTS.get(scheme, 0)
        authority = authority or url.netloc.decode("ascii")
        dialled = url.raw_host.decode("ascii").rstrip(".")
        self.core = Request(
            request.method,
            scheme,
            authority,
            port,
            path,
            raw,
            dialled=dialled,
            repeatable=fixed,
            is_grpc=grpc,
            start_time=wall(),
        )


class Whole:
    """A request whose body was a stream and is at hand now, for copies."""

    __slots__ = ("content", "core", "method", "request", "timeouts")

    streamed = upgrades = False
    trace = None

    def __init__(self, given: Outgoing, content: bytes) -> None:
        self.core = given.core
        self.method = given.method
        self.request = given.request
        self.content: bytes | None = content
        self.timeouts = replace(given.timeouts)


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_FRAMED = frozenset({"POST", "PUT", "PATCH"})


def _timeouts(given: Mapping[str, float | None]) -> Timeouts:
    return Timeouts(given.get("connect"), given.get("read"), given.get("write"), given.get("pool"))


class Split(NamedTuple):
    """An absolute URL in parts."""

    scheme: str
    host: str
    authority: str
    netloc: bytes
    port: int
    path: str


_PLAIN_URL = re.compile(
    r"(http)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([1-9][0-9]{0,4}))?"
    r"((?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9_.~!$&'()*+,;=:@-]*)*/?)(\?[A-Za-z0-9_.~!$()*+,;=:@/?&-]*)?"
)
"""URLs that every parser leaves as they are: lower-case host, nothing to encode, no dot segments, user or fragment."""


def split_url(url: str) -> Split | None:
    """The parts of a URL that needs no normalizing; None for any other, which the host library has to parse."""
    found = _PLAIN_URL.fullmatch(url)
    if found is None:
        return None
    scheme, host, port, path, query = found.groups()
    number = int(port) if port else 80
    if (number == 80 and port) or number > 65535:
        return None  # the host library leaves a default port out of the Host header
    authority = f"{host}:{port}" if port else host
    return Split(scheme, host, authority, authority.encode(), number, (path or "/") + (query or ""))


class Short:
    """A request in its shortest form: all that a plain call says, and the host library's request only when asked.

    Args:
        split: The URL.
        core: What the core routes by; its ``raw_headers`` are what is sent.
        content: The body, None for none.
        timeouts: Those of the caller.
        build: Makes the host library's request.
    """

    __slots__ = ("_build", "_request", "content", "core", "method", "timeouts")

    streamed = upgrades = False
    trace = None

    def __init__(
        self, core: Request, method: bytes, content: bytes | None, timeouts: Timeouts, build: Callable[[Short], Any]
    ) -> None:
        self.core = core
        self.method = method
        self.content = content
        self.timeouts = timeouts
        self._build = build
        self._request: Any = None

    @property
    def headers(self) -> Headers:
        """What is sent, before the mesh changes it."""
        return list(self.core.raw_headers)

    @property
    def request(self) -> Any:
        """The host library's request, made at first use."""
        if self._request is None:
            self._request = self._build(self)
        return self._request
