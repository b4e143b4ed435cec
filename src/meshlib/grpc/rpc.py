"""From an RPC to the request that routing reads, and from what is to be sent back to metadata.

Metadata and headers are the same lines; values of names that end in ``-bin`` are base64 as headers, bytes as metadata.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meshlib.dataplane.request import Request, split_host

__all__ = ["Metadata", "Pairs", "Service", "authority_of", "headers_of", "metadata_of", "request_of_rpc", "service_of"]

Metadata = Iterable[tuple[str, str | bytes]]
Pairs = list[tuple[bytes, bytes]]

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_PLAIN: Sequence[tuple[bytes, bytes]] = (_CONTENT_TYPE,)
_OWN = frozenset({b"host", b"content-type", b"te", b"grpc-timeout", b"user-agent", b"content-length", b"grpc-encoding"})
"""Headers that gRPC writes by itself; none of them may be given as metadata."""
_FOR_EVER = 1e8
"""Seconds; grpcio takes longer timeouts for ones that have run out."""
_SCHEMES = ("dns:///", "xds:///")


class Service(NamedTuple):
    """What a channel is for.

    Attributes:
        authority: As the caller wrote it, without the scheme of a resolver.
        host: In lower case, without port.
        port: The port named, else that of the scheme.
        scheme: ``http``, or ``https`` where the caller brings credentials of its own.
    """

    authority: str
    host: str
    port: int
    scheme: str


def service_of(target: str, scheme: str = "http") -> Service:
    """The service that a target names: ``host``, ``host:port``, or either behind ``dns:///`` or ``xds:///``.

    Raises:
        ValueError: The target is empty, names a resolver of another kind, or a port that is no number.
    """
    authority = next((target.removeprefix(known) for known in _SCHEMES if target.startswith(known)), target)
    if not authority or "/" in authority:
        raise ValueError(f"{target!r} is no target of a mesh channel: give host:port")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]") or (":" in host.strip("[]") and not host.endswith("]")):
        return Service(authority, split_host(authority), 443 if scheme == "https" else 80, scheme)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} in target {target!r} is no port")
    return Service(authority, split_host(authority), int(port), scheme)


def request_of_rpc(
    service: Service, method: str, metadata: Metadata | None, timeout: float | None, *, repeatable: bool = True
) -> Request:
    """The core's view of an RPC.

    Args:
        service: Whom the channel is for.
        method: ``/package.Service/Method``.
        metadata: Of the call.
        timeout: Seconds that the caller gives it, None for no end; three years are none.
        repeatable: One message, at hand: attempts may run side by side.

    Raises:
        TypeError: A value of the metadata is neither str nor bytes.
    """
    if timeout is not None and timeout > _FOR_EVER:
        timeout = None
    raw = [_CONTENT_TYPE, *headers_of(metadata)] if metadata else _PLAIN
    authority, host, port, scheme = service
    request = Request(
        "POST", scheme, authority, port, method, raw, host=host, repeatable=repeatable, timeout=timeout, is_grpc=True
    )
    request.writes_timeout = True
    return request


def headers_of(metadata: Metadata) -> Pairs:
    """Metadata as headers; what is no ASCII stays what it is, for gRPC to refuse.

    Raises:
        TypeError: A value is neither str nor bytes.
    """
    found: Pairs = []
    try:
        for name, value in metadata:
            raw = value if isinstance(value, bytes) else value.encode()
            found.append((name.encode(), b64encode(raw) if name.endswith("-bin") else raw))
    except AttributeError as error:
        raise TypeError(f"names of metadata are str, values str or bytes: {error}") from None
    return found


def metadata_of(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str | bytes]]:
    """Headers as metadata, without those that gRPC writes by itself; names in lower case, as gRPC has them."""
    found: list[tuple[str, str | bytes]] = []
    for raw, value in headers:
        name = _names.get(raw)
        if name is None:
            name = _name_of(raw)
        if not name:
            continue
        found.append((name, _decoded(value) if name[-4:] == "-bin" else value.decode("latin-1")))
    return found


def _name_of(raw: bytes) -> str:
    """The name that metadata has; ``""`` for headers that are none. Remembered, as far as there are not too many."""
    lower = raw.lower()
    name = "" if lower in _OWN else lower.decode("latin-1")
    if len(_names) < _REMEMBERED:
        _names[raw] = name
    return name


_names: dict[bytes, str] = {}
_REMEMBERED = 1024


def authority_of(headers: Iterable[tuple[bytes, bytes]], default: str) -> str:
    """What ``Host`` says, where a rule has set it, else ``default``."""
    for name, value in headers:
        if len(name) == 4 and name.lower() == b"host":
            return value.decode("latin-1")
    return default


def _decoded(value: bytes) -> bytes:
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except BadBase64:
        return value
