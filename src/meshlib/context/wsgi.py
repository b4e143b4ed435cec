"""The middleware for WSGI servers: a request, and the body that it streams, are served in the context it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any

from meshlib.context.current import entered
from meshlib.context.incoming import Incoming

__all__ = ["Stepwise", "WsgiContext"]

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]


class WsgiContext:
    """Around a WSGI application.

    Args:
        app: The application.
        headers: See ``Incoming``; shorthand for ``incoming=Incoming(headers)``.
        incoming: What is read, and how.
    """

    def __init__(self, app: Application, headers: Sequence[str] = (), incoming: Incoming | None = None) -> None:
        self._app = app
        self._incoming = incoming or Incoming(headers)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        what = f"the request {environ.get('REQUEST_METHOD', 'GET')} {environ.get('PATH_INFO', '/')}"
        context = self._incoming.read(_headers(environ), what)
        with entered(context):
            variables = copy_context()
        body = variables.run(self._app, environ, start_response)
        files = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple) or (isinstance(files, type) and isinstance(body, files)):
            return body
        return Stepwise(body, variables)


class Stepwise:
    """A body that is made while it is sent: each step of it runs in the context of its request.

    Args:
        body: What the application returned.
        variables: The context that it was made in.
    """

    def __init__(self, body: Iterable[bytes], variables: Variables) -> None:
        self._body = body
        self._variables = variables
        self._pieces = variables.run(iter, body)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces."""
        return self

    def __next__(self) -> bytes:
        """The next piece."""
        return self._variables.run(next, self._pieces)

    def close(self) -> None:
        """Close the application's body, as WSGI asks for."""
        close = getattr(self._body, "close", None)
        if close is not None:
            self._variables.run(close)


def _headers(environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The request's headers; what WSGI calls ``HTTP_X_REQUEST_ID`` is ``X-REQUEST-ID``."""
    return ((name[5:].replace("_", "-"), value) for name, value in environ.items() if name.startswith("HTTP_"))
