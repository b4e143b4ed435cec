"""The middleware for ASGI servers: HTTP requests and websockets are served in the context that they ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from meshlib.context.current import entered
from meshlib.context.incoming import Incoming

__all__ = ["AsgiContext"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiContext:
    """Around an ASGI application.

    The application itself is not interrupted at the deadline: its calls are.

    Args:
        app: The application.
        headers: See ``Incoming``; shorthand for ``incoming=Incoming(headers)``.
        incoming: What is read, and how.
    """

    def __init__(self, app: Application, headers: Sequence[str] = (), incoming: Incoming | None = None) -> None:
        self._app = app
        self._incoming = incoming or Incoming(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        what = f"the request {scope.get('method', 'GET')} {scope['path']}"
        with entered(self._incoming.read(scope["headers"], what)):
            await self._app(scope, receive, send)
