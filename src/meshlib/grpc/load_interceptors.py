"""Server interceptors that put the load report of a call into its trailers.

It stands there twice: as gRPC asks for it, and as text, since a client on gRPC's C core (all of Python) never gets to
see the former. Sources: gRFC A51, trailer ``endpoint-load-metrics-bin``; Envoy ORCA, ``endpoint-load-metrics``.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import grpc
import grpc.aio

from meshlib.context.grpc import rewrapped
from meshlib.context.wsgi import Stepwise
from meshlib.grpc.load_report import LoadRecorder, ServerLoad, encode, text

__all__ = ["AioLoadReports", "LoadReports", "call_load"]

_BINARY, _TEXT = "endpoint-load-metrics-bin", "endpoint-load-metrics"
_current: ContextVar[LoadRecorder | None] = ContextVar("meshlib_load", default=None)


def call_load() -> LoadRecorder | None:
    """What is reported of the call that is being served; None outside of one, or without an interceptor."""
    return _current.get()


class _Reported:
    """The context of a call, which adds the report to the trailers as the call ends, however it ends."""

    def __init__(self, servicer: Any, load: ServerLoad | None) -> None:
        self._servicer = servicer
        self._load = load
        self._told = False
        self._own: tuple[Any, ...] = ()
        self.recorder = LoadRecorder()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._servicer, name)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """As the context's own, which not every kind of context tells again."""
        self._own = tuple(trailing_metadata)
        self._servicer.set_trailing_metadata(self._own)

    def tell(self) -> None:
        """Set the trailer, once, beside those that the application has set."""
        if self._told:
            return
        self._told = True
        report = self.recorder if self._load is None else self.recorder.over(self._load.report())
        message = encode(report)
        if message:
            said = [(_BINARY, message), *((_TEXT, words) for words in (text(report),) if words)]
            self._servicer.set_trailing_metadata((*self._own, *said))

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        """As the context's own, which for ``grpc.aio`` sends the trailers there and then."""
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self.tell()
        return self._servicer.abort(code, details)

    def abort_with_status(self, status: Any) -> Any:
        """As the context's own."""
        if isinstance(status.code, grpc.StatusCode):
            return self.abort(status.code, status.details, status.trailing_metadata or ())
        return self._servicer.abort_with_status(status)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The application runs in the block."""
        before = _current.get()
        _current.set(self.recorder)
        try:
            yield
        finally:
            _current.set(before)
            self.tell()


class _Handlers:
    """What both interceptors do.

    Args:
        load: What fills up each report; None leaves each call to report for itself.
    """

    def __init__(self, load: ServerLoad | None = None) -> None:
        self._load = load

    def _serving(self, behaviour: Any) -> Callable[..., Any]:
        def reported(servicer: Any) -> _Reported:
            return _Reported(servicer, self._load)

        if inspect.isasyncgenfunction(behaviour):
            return _streaming(behaviour, reported)
        if inspect.iscoroutinefunction(behaviour):
            return _awaited(behaviour, reported)
        return _plain(behaviour, reported)


class LoadReports(_Handlers, grpc.ServerInterceptor):  # type: ignore[misc]
    """For ``grpc.server``: while a call is served, ``call_load()`` is what its trailers will report.

    Args:
        load: What fills up each report; None leaves each call to report for itself.
    """

    def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride] - its second name is long
        self, continuation: Callable[[Any], Any], details: Any
    ) -> Any:
        """See ``grpc.ServerInterceptor``."""
        return rewrapped(continuation(details), self._serving)


class AioLoadReports(_Handlers, grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """For ``grpc.aio.server``; see ``LoadReports``."""

    async def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride] - its second name is long
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        """See ``grpc.aio.ServerInterceptor``."""
        return rewrapped(await continuation(details), self._serving)


Reported = Callable[[Any], _Reported]


def _plain(behaviour: Any, reported: Reported) -> Callable[..., Any]:
    """In threads; responses that are made one by one are each made where the recorder is known."""

    def serve(request: Any, servicer: Any) -> Any:
        context = reported(servicer)
        variables = copy_context()
        variables.run(_current.set, context.recorder)
        try:
            answer = variables.run(behaviour, request, context)
        except BaseException:
            context.tell()
            raise
        if isinstance(answer, Iterator):
            return _told_at_the_end(Stepwise(answer, variables), context)
        context.tell()
        return answer

    return serve


def _told_at_the_end(answers: Stepwise, context: _Reported) -> Iterator[Any]:
    try:
        yield from answers
    finally:
        answers.close()
        context.tell()


def _awaited(behaviour: Any, reported: Reported) -> Callable[..., Any]:
    async def serve(request: Any, servicer: Any) -> Any:
        context = reported(servicer)
        with context.serving():
            return await behaviour(request, context)

    return serve


def _streaming(behaviour: Any, reported: Reported) -> Callable[..., Any]:
    async def serve(request: Any, servicer: Any) -> AsyncIterator[Any]:
        context = reported(servicer)
        with context.serving():
            async for response in behaviour(request, context):
                yield response

    return serve
