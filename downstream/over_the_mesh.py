"""A pytest plugin: what httpx's own transports would send to this machine, a mesh sends.

``httpx.HTTPTransport`` and its asynchronous twin stay what they are, so that tests may look into them; sending alone is
ours, with the transport's own TLS context and its choice of HTTP/2. Requests by a proxy or to other machines stay
theirs. At the end it says how many requests the mesh carried; none is an error, since nothing would have been tested.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import httpcore
import httpx
import pytest

from meshlib import Mesh
from meshlib.config.resources import load_text
from meshlib.httpx import AsyncMeshTransport, MeshTransport

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: local}}
spec:
  hosts: [localhost]
  addresses: [127.0.0.1]
  ports: [{{number: {port}, name: web, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"""
carried: Counter[str] = Counter()


@cache
def mesh(port: int) -> Mesh:
    """A mesh that knows this machine by this port."""
    return Mesh(*load_text(ENTRY.format(port=port)).resources)


def is_ours(transport: Any, request: httpx.Request) -> bool:
    """Whether the mesh knows the way: no proxy, no socket of its own, and a server on this machine."""
    pool = transport._pool
    is_plain = type(pool) in (httpcore.ConnectionPool, httpcore.AsyncConnectionPool) and pool._uds is None
    is_local = request.url.host in ("127.0.0.1", "localhost") and (request.url.port or 80) < 65536
    return is_plain and is_local and pool._proxy is None


def face_of(transport: Any, kind: type, request: httpx.Request) -> Any:
    """The face that sends for a transport to a port; made once."""
    faces = transport.__dict__.setdefault("_faces", {})
    port = request.url.port or {"http": 80, "https": 443}[request.url.scheme]
    if port not in faces:
        pool = transport._pool
        faces[port] = kind(mesh(port), verify=pool._ssl_context, http2=pool._http2)
    return faces[port]


def counted(response: httpx.Response) -> httpx.Response:
    """The response, which has to come from the mesh."""
    carried[response.extensions["mesh"].cluster.name if response.extensions["mesh"].cluster else "none"] += 1
    return response


def install() -> None:
    """Put the mesh beneath httpx's transports."""
    sends, sends_async = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request
    closes, closes_async = httpx.HTTPTransport.close, httpx.AsyncHTTPTransport.aclose

    def handle_request(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if not is_ours(self, request):
            return sends(self, request)
        return counted(face_of(self, MeshTransport, request).handle_request(request))

    async def handle_async_request(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if not is_ours(self, request):
            return await sends_async(self, request)
        return counted(await face_of(self, AsyncMeshTransport, request).handle_async_request(request))

    def close(self: httpx.HTTPTransport) -> None:
        for face in self.__dict__.pop("_faces", {}).values():
            face.close()
        closes(self)

    async def aclose(self: httpx.AsyncHTTPTransport) -> None:
        for face in self.__dict__.pop("_faces", {}).values():
            await face.aclose()
        await closes_async(self)

    httpx.HTTPTransport.handle_request = handle_request  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request  # type: ignore[method-assign]
    httpx.HTTPTransport.close = close  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.aclose = aclose  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing carried is nothing tested."""
    if not carried:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was carried."""
    terminalreporter.write_line(f"carried by the mesh: {sum(carried.values())} requests")
