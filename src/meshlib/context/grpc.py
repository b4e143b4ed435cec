"""Interceptors for gRPC servers, ``grpc`` and ``grpc.aio``: calls are served in the context that they ask for.

    server = grpc.server(executor, interceptors=[ServerContext()])
    server = grpc.aio.server(interceptors=[AioServerContext(headers=["end-user"])])

The deadline is the one that gRPC itself keeps. Needs the extra ``meshlib[grpc]``.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any

try:
    import grpc
    import grpc.aio
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise ImportError(f"gRPC servers need grpcio: pip install 'meshlib[grpc]' ({error})") from error

from meshlib.context.current import Context, entered
from meshlib.context.incoming import Incoming
from meshlib.context.wsgi import Stepwise

__all__ = ["AioServerContext", "ServerContext", "rewrapped"]

_FOR_EVER = 1e8
"""Seconds; gRPC tells a deadline that is so far away where there is none."""


class _Handlers:
    """What both interceptors do: put the behaviour of a method into the context of each of its calls."""

    def __init__(self, headers: Sequence[str] = (), incoming: Incoming | None = None) -> None:
        self._incoming = incoming or Incoming(headers, timeouts={})

    def _wrapped(self, handler: Any, details: Any) -> Any:
        return rewrapped(handler, lambda behaviour: self._serving(behaviour, details))

    def _serving(self, behaviour: Any, details: Any) -> Callable[..., Any]:
        """The behaviour in its context, as a function of the same kind: gRPC runs each kind in its own way."""

        def context(servicer: Any) -> Context:
            return self._context(details, servicer.time_remaining())

        if inspect.isasyncgenfunction(behaviour):
            return _streaming(behaviour, context)
        if inspect.iscoroutinefunction(behaviour):
            return _awaited(behaviour, context)
        return _plain(behaviour, context)

    def _context(self, details: Any, left: float | None) -> Context:
        seconds = left if left is not None and left < _FOR_EVER else None
        metadata = ((name, _text(name, value)) for name, value in details.invocation_metadata or ())
        return self._incoming.read(metadata, f"the call of {details.method}", seconds)


class ServerContext(_Handlers, grpc.ServerInterceptor):  # type: ignore[misc]
    """For ``grpc.server``.

    Args:
        headers: See ``Incoming``; shorthand for ``incoming=Incoming(headers, timeouts={})``.
        incoming: What is read, and how.
    """

    def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride] - its second name is long
        self, continuation: Callable[[Any], Any], details: Any
    ) -> Any:
        """See ``grpc.ServerInterceptor``."""
        return self._wrapped(continuation(details), details)


class AioServerContext(_Handlers, grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """For ``grpc.aio.server``; see ``ServerContext``."""

    async def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride] - its second name is long
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        """See ``grpc.aio.ServerInterceptor``."""
        return self._wrapped(await continuation(details), details)


_MAKERS: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


def rewrapped(handler: Any, wrap: Callable[[Any], Callable[..., Any]]) -> Any:
    """A method's handler of the same kind around ``wrap`` of its behaviour; None for a method that nobody offers."""
    if handler is None:
        return None
    for name, make in _MAKERS.items():
        behaviour = getattr(handler, name)
        if behaviour is not None:
            return make(wrap(behaviour), handler.request_deserializer, handler.response_serializer)
    return handler


def _plain(behaviour: Any, context: Callable[[Any], Context]) -> Callable[..., Any]:
    """In threads; responses that are made one by one are each made in the context."""

    def serve(request: Any, servicer: Any) -> Any:
        with entered(context(servicer)):
            variables = copy_context()
        answer = variables.run(behaviour, request, servicer)
        return Stepwise(answer, variables) if isinstance(answer, Iterator) else answer

    return serve


def _awaited(behaviour: Any, context: Callable[[Any], Context]) -> Callable[..., Any]:
    async def serve(request: Any, servicer: Any) -> Any:
        with entered(context(servicer)):
            return await behaviour(request, servicer)

    return serve


def _streaming(behaviour: Any, context: Callable[[Any], Context]) -> Callable[..., Any]:
    async def serve(request: Any, servicer: Any) -> AsyncIterator[Any]:
        with entered(context(servicer)):
            async for response in behaviour(request, servicer):
                yield response

    return serve


def _text(name: str, value: str | bytes) -> str | bytes:
    """Binary metadata goes on as headers carry it."""
    return base64.b64encode(value) if name.endswith("-bin") and isinstance(value, bytes) else value
