"""One health check of one endpoint: by a request, by gRPC's health protocol, or by a connection alone.

gRPC's protocol is one message of one field each way, so that its bytes are written here and no gRPC library is needed.
It is Envoy's way of checking: a call of ``Check`` each time, over HTTP/2.

Source: ``grpc.health.v1.Health``; Envoy ``health_check.proto``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from meshlib.dataplane.policies.checked import Probe
from meshlib.model.client_policy import HealthCheck, ProbeKind
from meshlib.transport.base import CooperativeTransport, Headers, Target, Timeouts, WireError, WireRequest, WireResponse

__all__ = ["probe"]

_AGENT = (b"User-Agent", b"meshlib-health-check")
_MOST = 65536
"""Bytes of an answer that are read, so that the connection can be kept."""
_CHECK = b"/grpc.health.v1.Health/Check"
_SERVING = 1


async def probe(
    transport: CooperativeTransport, target: Target, check: HealthCheck, authority: str
) -> tuple[Probe, str]:
    """Ask an endpoint, for ``check.timeout`` seconds at most; what came of it, and in words.

    Args:
        transport: Sends in the running event loop.
        target: The endpoint; for gRPC one that speaks HTTP/2.
        check: How to ask.
        authority: Host header where the check names none.
    """
    try:
        async with asyncio.timeout(check.timeout):
            if check.kind is ProbeKind.TCP:
                return await _connect(target)
            ask = _ask_grpc if check.kind is ProbeKind.GRPC else _ask_http
            return await ask(transport, target, check, (check.host or authority).encode("latin-1"))
    except TimeoutError:
        return Probe.NO_ANSWER, f"no answer within {check.timeout:g} s"
    except WireError as error:
        return Probe.NO_ANSWER, str(error) or error.failure.value
    except OSError as error:
        return Probe.NO_ANSWER, str(error)


async def _connect(target: Target) -> tuple[Probe, str]:
    name = target.server_name if target.tls is not None else None
    if target.address.startswith("unix://"):
        _, writer = await asyncio.open_unix_connection(target.address[7:], ssl=target.tls, server_hostname=name)
    else:
        address = target.addresses[0]
        _, writer = await asyncio.open_connection(address, target.port, ssl=target.tls, server_hostname=name)
    writer.transport.abort()
    return Probe.PASSED, "connected"


# HTTP ---------------------------------------------------------------------------------------------------------------


async def _ask_http(
    transport: CooperativeTransport, target: Target, check: HealthCheck, authority: bytes
) -> tuple[Probe, str]:
    given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in check.headers]
    headers = [(b"Host", authority), _AGENT, *given]
    request = _request(target, check, check.method.encode("ascii"), check.path.encode("ascii", "replace"), headers)
    response = await transport.send(target, request)
    await _drain(response)
    expected = response.status in check.statuses if check.statuses else 200 <= response.status < 300
    return (Probe.PASSED if expected else Probe.ANSWERED_BADLY), f"status {response.status}"


def _request(
    target: Target, check: HealthCheck, method: bytes, path: bytes, headers: Headers, body: bytes | None = None
) -> WireRequest:
    scheme = b"https" if target.tls is not None else b"http"
    return WireRequest(method, path, scheme, headers, body, Timeouts(deadline=monotonic() + check.timeout))


async def _drain(response: WireResponse) -> bytes:
    """The body, as far as it is of a reasonable length."""
    body: bytes = response.body.whole() or b""
    try:
        if not body:
            chunks: AsyncIterator[bytes] = aiter(response.body)
            async for chunk in chunks:
                body += chunk
                if len(body) > _MOST:
                    break
    finally:
        await response.body.aclose()
    return body


# gRPC ---------------------------------------------------------------------------------------------------------------


async def _ask_grpc(
    transport: CooperativeTransport, target: Target, check: HealthCheck, authority: bytes
) -> tuple[Probe, str]:
    body = _asked(check.service)
    headers = [
        (b"Host", authority),
        _AGENT,
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"content-length", b"%d" % len(body)),
    ]
    response = await transport.send(
        target, _request(target, check, b"POST", b"/grpc.health.v1.Health/Check", headers, body)
    )
    status = _status(await _drain(response)) if response.status == 200 else None
    if status == _SERVING:
        return Probe.PASSED, "SERVING"
    if status is not None:
        return Probe.ANSWERED_BADLY, {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, f"{status}")
    told = dict(response.headers).get(b"grpc-status", b"").decode("latin-1")
    return Probe.ANSWERED_BADLY, f"grpc-status {told}" if told else f"HTTP status {response.status} and no answer"


def _asked(service: str) -> bytes:
    """``HealthCheckRequest{service}`` in gRPC's frame: a flag, four bytes of length, the message."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _status(body: bytes) -> int | None:
    """``HealthCheckResponse.status``, field 1, absent for 0; None where there is no whole, uncompressed message."""
    length = int.from_bytes(body[1:5], "big")
    if len(body) < 5 + length or body[:1] != b"\x00":
        return None
    message = body[5 : 5 + length]
    return message[1] if message[:1] == b"\x08" and len(message) > 1 else 0
