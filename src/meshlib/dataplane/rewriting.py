"""What is sent instead of what was asked: authority, path and headers as the rule and its destination say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane.request import Request
from meshlib.model.route import Forward

if TYPE_CHECKING:
    from meshlib.dataplane.bound_route import BoundRoute
    from meshlib.dataplane.destination import Destination

__all__ = ["rewrite"]


def rewrite(
    bound: BoundRoute, request: Request, destination: Destination, rng: random.Random
) -> tuple[str, header_ops.Pairs]:
    """Target and headers to send: operations, authority, path, request id."""
    changes, extended = destination.changes or bound.unsent, request.extended
    target, headers = _changed(bound, request, destination) if changes else (request.path, list(request.raw_headers))
    if not ((changes or extended) and _has_request_id(headers)):
        headers.append((b"x-request-id", _request_id(rng)))
    if extended:  # attempts are counted anew, whatever a request that is passed on says of its own
        headers = [pair for pair in headers if pair[0].lower() != b"x-envoy-attempt-count"]
    return target, headers


def _changed(bound: BoundRoute, request: Request, destination: Destination) -> tuple[str, header_ops.Pairs]:
    action = bound.route.action
    assert isinstance(action, Forward)
    headers: header_ops.Pairs = list(request.raw_headers)
    if bound.unsent:
        headers = [pair for pair in headers if pair[0].lower() not in bound.unsent]
    operations = destination.request_ops
    if destination.host_rewrite is not None:  # the rule's own operations see the destination's authority
        inner = destination.inner_levels
        headers = header_ops.apply(operations[:inner], headers, request)
        headers, operations = _with_host(headers, destination.host_rewrite), operations[inner:]
    if operations:
        headers = header_ops.apply(operations, headers, request)
    host = _host(bound, action, headers, request)
    if host is not None:
        before = destination.host_rewrite or request.authority
        headers = _telling(b"x-envoy-original-host", before, _with_host(headers, host))
    if destination.tells_host and (host or destination.host_rewrite) is not None:
        headers.append((b"x-forwarded-host", request.authority.encode("latin-1", "replace")))
    target = request.path
    if destination.path_rewrite is not None:
        path, mark, query = target.partition("?")
        target = destination.path_rewrite(path) + mark + query
        headers = _telling(b"x-envoy-original-path", request.path, headers)
    return target, headers


def _host(bound: BoundRoute, action: Forward, headers: header_ops.Pairs, request: Request) -> str | None:
    """The authority that the route asks for; None leaves it to the destination, else to the caller."""
    if action.host_rewrite is not None:
        return action.host_rewrite
    if action.host_from_header is not None:
        return header_ops.Seen(request, headers).get(action.host_from_header) or None
    if bound.host_from_path is not None:
        return bound.host_from_path(request.path.partition("?")[0])
    return None


def _with_host(headers: header_ops.Pairs, host: str) -> header_ops.Pairs:
    rest = [pair for pair in headers if pair[0].lower() != b"host"]
    return [(b"Host", host.encode("latin-1")), *rest]


def _telling(name: bytes, value: str, headers: header_ops.Pairs) -> header_ops.Pairs:
    """``headers`` with what is told under that name here, whatever was told before."""
    rest = [pair for pair in headers if pair[0].lower() != name]
    return [*rest, (name, value.encode("latin-1", "replace"))]


def _has_request_id(headers: header_ops.Pairs) -> bool:
    for name, _ in headers:
        if len(name) == 12 and name.lower() == b"x-request-id":
            return True
    return False


_UUID_CLEARED = ~(0xF << 76 | 0x3 << 62)
_UUID_SET = 0x4 << 76 | 0x2 << 62


def _request_id(rng: random.Random) -> bytes:
    """A random UUID (version 4), as a sidecar makes it when the caller sent none."""
    bits = rng.getrandbits(128) & _UUID_CLEARED | _UUID_SET
    pairs = bits.to_bytes(16, "big").hex("-", 2)  # a dash after every second byte: too many
    return (pairs[:4] + pairs[5:29] + pairs[30:34] + pairs[35:]).encode()
