"""Who is measured: clients that ask the upstream directly, through a sidecar, and through the mesh, all policies on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import envoys

from meshlib import AsyncMeshClient, Mesh, MeshClient
from meshlib.config.resources import load_text
from meshlib.httpx import AsyncMeshTransport
from meshlib.transport.base import Target, Timeouts, WireRequest

Ask = Callable[[], Awaitable[Any]]

OBJECTS = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: reviews}}
spec:
  hosts: [reviews.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {0}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{http: {1}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{http: {2}}}, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews}}
spec:
  host: reviews.example.com
  trafficPolicy:
    tls: {{mode: DISABLE}}  # a sidecar without a control plane has no certificate
    loadBalancer: {{simple: LEAST_REQUEST}}
    connectionPool:
      tcp: {{maxConnections: 1024}}
      http: {{http1MaxPendingRequests: 1024, http2MaxRequests: 1024, maxRetries: 10}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews.example.com]
  http:
  - match: [{{uri: {{prefix: /admin}}}}]
    route: [{{destination: {{host: reviews.example.com, subset: v2}}}}]
  - match: [{{uri: {{prefix: /reviews}}}}]
    timeout: 10s
    retries: {{attempts: 2, retryOn: "5xx,connect-failure"}}
    route:
    - {{destination: {{host: reviews.example.com, subset: v1}}, weight: 80}}
    - {{destination: {{host: reviews.example.com, subset: v2}}, weight: 20}}
"""
URL = "http://reviews.example.com:9080/reviews/0"


class World:
    """The upstream, the mesh in front of it, and a sidecar that does the same."""

    def __init__(self) -> None:
        telemetry()
        self.upstream = envoys.upstream(3)
        ports = [self.upstream.ports[str(number)] for number in range(3)]
        self.mesh = Mesh(*load_text(OBJECTS.format(*ports)).resources)
        self.mesh.ready(timeout=30)
        self.sidecar = envoys.sidecar(self.mesh.snapshot)
        self.direct_url = f"http://127.0.0.1:{ports[0]}/reviews/0"
        self.sidecar_url = f"http://127.0.0.1:{self.sidecar.ports['9080']}/reviews/0"
        self.target = Target("127.0.0.1", ports[0])

    def close(self) -> None:
        """End everything."""
        self.mesh.close()
        self.sidecar.close()
        self.upstream.close()


def telemetry() -> None:
    """OpenTelemetry's SDK with a reader, and one span in a hundred recorded."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(sampler=ParentBasedTraceIdRatio(0.01))
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def is_right(status: int, body: bytes) -> None:
    """A contender that got anything else measures something else."""
    if status != 200 or body != envoys.BODY:
        raise AssertionError(f"{status}: {body[:100]!r}")


class Async:
    """The asynchronous contenders, by name; ``close`` ends their clients."""

    def __init__(self, world: World) -> None:
        import aiohttp
        import httpx
        import httpx2

        from meshlib.httpx2 import AsyncMeshClient as AsyncMeshClient2

        host = {"Host": "reviews.example.com:9080"}
        plain, plain2, session = httpx.AsyncClient(), httpx2.AsyncClient(), aiohttp.ClientSession()
        client, client2 = AsyncMeshClient(world.mesh), AsyncMeshClient2(world.mesh)
        dropped = httpx.AsyncClient(transport=AsyncMeshTransport(world.mesh))
        idle = httpx.AsyncClient(transport=_at_once(httpx))
        self._world = world
        self._http = [plain, plain2, client, client2, dropped, idle]
        self._session = session
        self.asks: dict[str, Ask] = {
            "mesh": self._got(client, URL),
            "mesh_httpx2": self._got(client2, URL),
            "drop_in": self._got(dropped, URL),
            "httpx_sending_nothing": self._got(idle, URL),
            "transport_alone": self._alone,
            "httpx": self._got(plain, world.direct_url),
            "httpx2": self._got(plain2, world.direct_url),
            "aiohttp": self._asked_by_aiohttp,
            "httpx2_through_envoy": self._got(plain2, world.sidecar_url, host),
        }

    @staticmethod
    def _got(client: Any, url: str, headers: Any = None) -> Ask:
        async def ask() -> None:
            response = await client.get(url, headers=headers)
            is_right(response.status_code, response.content)

        return ask

    async def _asked_by_aiohttp(self) -> None:
        async with self._session.get(self._world.direct_url) as response:
            is_right(response.status, await response.read())

    async def _alone(self) -> None:
        """The mesh's transport without the mesh, and without a client."""
        request = WireRequest(b"GET", b"/reviews/0", b"http", list(_HEADERS), None, Timeouts(5, 5, 5, 5))
        reply = await self._world.mesh.cooperative.send(self._world.target, request)
        body = reply.body.whole()
        is_right(reply.status, b"".join([piece async for piece in reply.body]) if body is None else body)

    async def close(self) -> None:
        """End the clients."""
        for client in self._http:
            await client.aclose()
        await self._session.close()


def _at_once(httpx: Any) -> Any:
    """A transport that answers without sending: what is left is httpx's client, the floor of any drop-in transport."""
    headers = [(b"content-length", b"%d" % len(envoys.BODY)), (b"content-type", b"text/plain"), (b"server", b"envoy")]

    class AtOnce(httpx.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            await asyncio.sleep(0)
            return httpx.Response(200, headers=headers, stream=httpx.ByteStream(envoys.BODY))

    return AtOnce()


_HEADERS = (
    (b"Host", b"reviews.example.com:9080"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", b"python-httpx/0.28.1"),
)


class Sync:
    """The blocking contenders, by name."""

    def __init__(self, world: World) -> None:
        import httpx

        client, plain = MeshClient(world.mesh), httpx.Client()
        self._http = [client, plain]
        self.asks = {"mesh": self._got(client, URL), "httpx": self._got(plain, world.direct_url)}

    @staticmethod
    def _got(client: Any, url: str) -> Callable[[], None]:
        def ask() -> None:
            response = client.get(url)
            is_right(response.status_code, response.content)

        return ask

    def close(self) -> None:
        """End the clients."""
        for client in self._http:
            client.close()
