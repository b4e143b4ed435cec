"""Envoy's client status discovery service (CSDS) for gRPC servers: what the xDS clients of this process know.

Source: gRFC A40; ``envoy/service/status/v3/csds.proto``. Answers hold one ``ClientConfig`` for each provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from meshlib.providers.xds.provider import XdsProvider
from meshlib.xds.messages import csds_pb2

if TYPE_CHECKING:
    grpc: Any
else:
    try:
        import grpc
    except ImportError as error:  # pragma: no cover - depends on what is installed
        raise ImportError(f"serving what clients know needs grpcio: pip install 'meshlib[grpc]' ({error})") from error

__all__ = ["status_service"]

_SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"


def status_service(*providers: XdsProvider, aio: bool = False) -> Any:
    """For ``server.add_generic_rpc_handlers``.

    Args:
        providers: Whose knowledge is shown.
        aio: The server is one of ``grpc.aio``.
    """

    def answer(request: Any) -> Any:
        if request.node_matchers:
            raise ValueError("node_matchers have no meaning for a client")
        return csds_pb2.ClientStatusResponse(config=[each.client_config() for each in providers])

    made = _cooperative(answer) if aio else _blocking(answer)
    words = {
        "request_deserializer": csds_pb2.ClientStatusRequest.FromString,
        "response_serializer": csds_pb2.ClientStatusResponse.SerializeToString,
    }
    handlers = {
        "FetchClientStatus": grpc.unary_unary_rpc_method_handler(made[0], **words),
        "StreamClientStatus": grpc.stream_stream_rpc_method_handler(made[1], **words),
    }
    return grpc.method_handlers_generic_handler(_SERVICE, handlers)


def _blocking(answer: Any) -> tuple[Any, Any]:
    def fetch(request: Any, context: Any) -> Any:
        try:
            return answer(request)
        except ValueError as error:
            return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def stream(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        return (fetch(request, context) for request in requests)

    return fetch, stream


def _cooperative(answer: Any) -> tuple[Any, Any]:
    async def fetch(request: Any, context: Any) -> Any:
        try:
            return answer(request)
        except ValueError as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield await fetch(request, context)

    return fetch, stream
