"""What ``grpc_channels`` calls: a server of its own process, and the mesh's configuration for it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

UNARY = "/bench.Echo/Unary"
MESSAGES = 200


def serve() -> None:
    """A server that gives back what it gets; streams give ``MESSAGES`` messages."""

    class Echo(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method == UNARY:
                return grpc.unary_unary_rpc_method_handler(_unary)
            return grpc.stream_stream_rpc_method_handler(_stream)

    async def _unary(request: bytes, context: Any) -> bytes:
        return request

    async def _stream(requests: Any, context: Any) -> Any:
        async for request in requests:
            for _ in range(MESSAGES):
                yield request

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Echo(),))
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        await server.start()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(None)

    asyncio.run(main())


def world(port: int) -> list[dict[str, Any]]:
    """One service with one endpoint, retries and outlier detection armed."""
    name, host = "echo", "echo.bench"
    entry = {
        "hosts": [host],
        "ports": [{"number": 80, "name": "grpc", "protocol": "GRPC"}],
        "resolution": "STATIC",
        "location": "MESH_INTERNAL",
        "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
    }
    rule = {"host": host, "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}}}
    route = {
        "hosts": [host],
        "http": [
            {"match": [{"uri": {"prefix": "/none"}}], "route": [{"destination": {"host": host}}]},
            {"route": [{"destination": {"host": host}}], "timeout": "30s", "retries": {"attempts": 2}},
        ],
    }
    api = "networking.istio.io/v1"
    kinds = {"ServiceEntry": entry, "DestinationRule": rule, "VirtualService": route}
    return [{"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec} for kind, spec in kinds.items()]


if __name__ == "__main__":
    serve()
