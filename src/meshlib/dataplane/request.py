"""What the core reads of a request; the faces make one per call, without converting anything they need not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlsplit

__all__ = ["HeaderFacts", "Request", "is_grpc", "request_of", "split_host"]

_NEVER: dict[str, list[str]] = {}
_MARKS = frozenset(letter.encode() for letter in "xXtTbBsSgG")
"""First letters of Envoy's headers, of request ids, and of those that carry trace context."""


class HeaderFacts(NamedTuple):
    """What is known of headers that many requests share.

    Attributes:
        extended: Any of them may be one of Envoy's, a request id or trace context, by its first letter.
        size: Bytes of all names and values.
    """

    extended: bool
    size: int

    @classmethod
    def of(cls, headers: Sequence[tuple[bytes, bytes]]) -> HeaderFacts:
        """Look at them once."""
        extended = any(name[:1] in _MARKS for name, _ in headers)
        return cls(extended, sum(map(len, chain.from_iterable(headers))))


class Request:
    """One request, as routing sees it.

    Attributes:
        method: As sent, case kept.
        scheme: ``http`` or ``https``.
        authority: Host header as sent, port included.
        host: ``authority`` in lower case without port; the key of the host look-up.
        dialled: The host of the URL in lower case; ``host`` where nobody says otherwise.
        port: Port the client addressed (of the URL, not of the Host header).
        path: Path and query; routing normalizes it as the mesh asks for, so that what is matched is what is sent.
        raw_headers: What the client will send, names in any case.
        replayable: Whether the body can be sent from its beginning; the face of a body that can be taken only once
            says False as soon as something was taken that cannot be given again.
        repeatable: Whether the body can be sent any number of times, and by several attempts at once.
        timeout: Seconds the caller gives the whole call, None is unbounded; not above 0 when none are left.
        timeout_of: Whose ``timeout`` it is, in words, where it is not this call's own.
        is_grpc: Content type ``application/grpc``, or that and ``+`` something.
        writes_timeout: Whoever sends it tells the deadline by itself: no header is made of it.
        wants_http2: Whoever sends it would speak HTTP/2, where that is left to the caller.
    """

    __slots__ = (
        "_facts",
        "_headers",
        "_repeated",
        "authority",
        "dialled",
        "host",
        "is_grpc",
        "method",
        "path",
        "port",
        "raw_headers",
        "repeatable",
        "replayable",
        "scheme",
        "start_time",
        "timeout",
        "timeout_of",
        "wants_http2",
        "writes_timeout",
    )

    def __init__(
        self,
        method: str,
        scheme: str,
        authority: str,
        port: int,
        path: str,
        raw_headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        host: str | None = None,
        dialled: str | None = None,
        repeatable: bool = True,
        timeout: float | None = None,
        is_grpc: bool = False,
        start_time: float | None = None,
        facts: HeaderFacts | None = None,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.host = split_host(authority) if host is None else host
        self.dialled = self.host if dialled is None else dialled
        self.port = port
        self.path = path
        self.raw_headers = raw_headers
        self.replayable = True
        self.repeatable = repeatable
        self.timeout = timeout
        self.timeout_of = ""
        self.writes_timeout = self.wants_http2 = False
        self.is_grpc = is_grpc
        self.start_time = start_time
        self._headers: dict[str, str] | None = None
        self._facts = facts
        self._repeated: dict[str, list[str]] = _NEVER

    @property
    def headers(self) -> dict[str, str]:
        """Lower-case name -> value, repeated lines joined with ``,``; pseudo headers included. Built at first use."""
        if self._headers is None:
            self._headers = self._read_headers()
        return self._headers

    def header(self, name: str) -> str | None:
        """The value of a header, by its lower-case name; ``:path`` and kin too."""
        return self.headers.get(name)

    def add(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send some more headers, which everything that looks from here on sees."""
        self.raw_headers = [*self.raw_headers, *headers]
        self._headers = self._facts = None
        self._repeated = _NEVER

    @property
    def extended(self) -> bool:
        """Whether any header may be one of Envoy's, a request id or trace context, by its first letter."""
        if self._facts is None:
            self._facts = HeaderFacts.of(self.raw_headers)
        return self._facts.extended

    @property
    def header_bytes(self) -> int:
        """Bytes of all names and values."""
        if self._facts is None:
            self._facts = HeaderFacts.of(self.raw_headers)
        return self._facts.size

    @property
    def repeated(self) -> dict[str, list[str]]:
        """The lines of those headers that stand more than once, in order; almost always empty."""
        if self._headers is None:
            self._headers = self._read_headers()
        return self._repeated

    def _read_headers(self) -> dict[str, str]:
        found = {":method": self.method, ":scheme": self.scheme, ":authority": self.authority, ":path": self.path}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in found:
                self._repeat(name, found[name], value)
                value = f"{found[name]},{value}"
            found[name] = value
        return found

    def _repeat(self, name: str, before: str, value: str) -> None:
        if self._repeated is _NEVER:
            self._repeated = {}
        self._repeated.setdefault(name, [before]).append(value)


def is_grpc(content_type: bytes) -> bool:
    """Whether a request of that content type is gRPC; ``application/grpc-web`` is not. Source: Envoy."""
    return content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")


def request_of(method: str, url: str, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Request:
    """The core's view of a request that is given in words, for ``explain``.

    Args:
        method: HTTP method.
        url: Absolute URL.
        headers: By name; or pairs, where a name may stand several times.

    Raises:
        ValueError: The URL is not absolute http or https, or a header cannot be sent.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an absolute http or https URL")
    given_pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    pairs: list[tuple[str, str]] = list(given_pairs)
    given = next((value for name, value in pairs if name.lower() == "host"), None)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    raw = [_line(name, value) for name, value in pairs]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    authority, dialled = given or parts.netloc.rpartition("@")[2], split_host(parts.netloc.rpartition("@")[2])
    kind = next((value for name, value in pairs if name.lower() == "content-type"), "").encode("latin-1")
    return Request(method, parts.scheme, authority, port, path, raw, is_grpc=is_grpc(kind), dialled=dialled)


def _line(name: str, value: str) -> tuple[bytes, bytes]:
    try:
        return name.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"header {name!r} has characters that cannot be sent: {value!r}") from None


def split_host(authority: str) -> str:
    """The host of ``host:port`` in lower case, without a trailing dot; IPv6 without brackets."""
    host = authority.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    host, _, port = host.rpartition(":") if ":" in host else (host, "", "")
    if ":" in host:  # a bare IPv6 address has no port
        return f"{host}:{port}"
    return host.rstrip(".")
