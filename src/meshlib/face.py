"""What the faces for httpx and httpx2 do, in both colours; the classes of the host library come in as ``Faces``."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace
from functools import partial
from typing import Any

from meshlib import errors
from meshlib.clock import Clock
from meshlib.context.current import NOTHING, current
from meshlib.dataplane import router
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import blocking, cooperative
from meshlib.exchange import AsyncCallExchange, CallExchange, Faces, translated
from meshlib.mesh import MeshSource, as_mesh
from meshlib.outgoing import Built, Outgoing, Whole
from meshlib.rate_limit_service import RateLimitServices
from meshlib.replay import AsyncReplay, Replay
from meshlib.transport.cooperative import running_loop
from meshlib.transport.targets import Targets
from meshlib.transport.tls import TlsContexts

__all__ = ["BlockingFace", "CooperativeFace"]


class _Face:
    """What both colours hold besides the bytes."""

    def __init__(
        self,
        faces: Faces,
        mesh: MeshSource,
        passthrough: Any,
        transport: Any,
        verify: ssl.SSLContext | str | bool,
        http2: bool,
    ) -> None:
        self.mesh, self._owns_mesh = as_mesh(mesh)
        self._faces = faces
        self._passthrough = passthrough
        self._transport = transport
        self._verify = verify
        self._http2 = http2
        self._targets = Targets(TlsContexts(), self.mesh.lookup)
        self._services = RateLimitServices(self.mesh, self._targets)
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def _begin(self, given: Outgoing) -> tuple[Call | None, tuple[Any, ...]]:
        """The routed call, None for a host that the mesh does not know, and what an exchange is made of."""
        mesh = self.mesh
        core = given.core
        core.wants_http2 = self._http2
        context = current()
        if context is not NOTHING:
            context.lend(core)
        try:
            call = router.begin(mesh.prepared, core, mesh.clock.now(), mesh.rng, mesh.observer)
        except errors.NotYet:
            raise
        except errors.MeshError as error:
            raise translated(error, self._faces, given.request) from None
        tls = self._caller_tls() if core.scheme == "https" else None
        return call, (given, self._faces, self._targets, mesh.clock, tls, self._http2, mesh.replays, self._services)

    def _caller_tls(self) -> ssl.SSLContext | None:
        """The context for ``https`` URLs; making one takes tens of milliseconds, so it is made once and late."""
        with self._lock:
            if self._tls is None:
                self._tls = self._faces.ssl_context(verify=self._verify)
            return self._tls

    def _direct(self, make: Any) -> Any:
        """The way to hosts that the mesh does not know."""
        with self._lock:
            if self._passthrough is None:
                self._passthrough = make(verify=self._verify, http2=self._http2)
            return self._passthrough


class BlockingFace(_Face):
    """Drives calls from threads."""

    def handle(self, request: Any) -> Any:
        """Send one request, through the mesh or past it."""
        exchange = self.begin(Built(request, self._faces.fixed_body))
        if exchange is None:
            return self._direct(self._faces.direct).handle_request(request)
        return self.drive(exchange)

    def begin(self, given: Outgoing, kind: type[CallExchange] = CallExchange) -> CallExchange | None:
        """Route a request; None for a host that the mesh does not know."""
        mesh = self.mesh
        mesh.wait_ready()
        while True:
            try:
                call, parts = self._begin(given)
                break
            except errors.NotYet as asked:
                mesh.wait_known(asked)
        if call is None:
            return None
        exchange = kind(self._transport or mesh.blocking, *parts)
        exchange.call = call
        if call.mirrors and not given.streamed:
            self._mirror(call, parts)
        return exchange

    def drive(self, exchange: CallExchange) -> Any:
        """Send what was begun."""
        assert exchange.call is not None
        try:
            return blocking.drive(exchange.call, exchange, self.mesh.clock)
        except errors.MeshError as error:
            raise translated(error, self._faces, exchange.request) from error.__cause__
        finally:
            if exchange.replay is not None:
                self._let_go(exchange, exchange.replay)

    def _let_go(self, exchange: CallExchange, replay: Replay) -> None:
        """The call is decided: its body is kept no longer; one that was sent whole is copied to the mirrors."""
        content, call = replay.content(), exchange.call
        replay.release()
        if content is not None and call is not None and call.mirrors:
            given = Whole(exchange.given, content)
            self._mirror(call, exchange.parts(given))

    def _mirror(self, call: Call, parts: tuple[Any, ...]) -> None:
        mesh = self.mesh
        for copy in router.copies(call, mesh.clock.now(), mesh.rng):
            exchange = CallExchange(self._transport or mesh.blocking, *parts)
            exchange.call, exchange.timeouts = copy, replace(exchange.timeouts)
            mesh.mirrors.in_thread(partial(_send_copy, copy, exchange, mesh.clock))

    def end(self) -> None:
        """Close what was made here."""
        if self._passthrough is not None:
            self._passthrough.close()
        if self._owns_mesh:
            self.mesh.close()


class CooperativeFace(_Face):
    """Drives calls from tasks."""

    _loop: Any = None

    async def handle(self, request: Any) -> Any:
        """Send one request, through the mesh or past it."""
        if not self.is_entered:
            await self.enter()
        exchange = await self.begun(Built(request, self._faces.fixed_body))
        if exchange is None:
            return await self._direct(self._faces.async_direct).handle_async_request(request)
        return await self.drive(exchange)

    @property
    def is_entered(self) -> bool:
        """Whether calls may begin in the running event loop; else ``enter``."""
        return self._loop is running_loop() and self.mesh.is_ready

    async def enter(self) -> None:
        """Calls will be made in the running event loop; wait for the first snapshot.

        Raises:
            NotReady: None came in time, or the mesh is closed.
        """
        mesh = self.mesh
        loop = running_loop()
        if self._loop is not loop:
            self._loop = loop
            mesh.cooperative.enter(self)
            mesh.watch_loop()
        if not mesh.is_ready:
            await mesh.await_ready()

    async def begun(
        self, given: Outgoing, kind: type[AsyncCallExchange] = AsyncCallExchange
    ) -> AsyncCallExchange | None:
        """As ``begin``, and wait where a control plane, or DNS, has to be asked about the host first."""
        while True:
            try:
                return self.begin(given, kind)
            except errors.NotYet as asked:
                await self.mesh.await_known(asked)

    def begin(self, given: Outgoing, kind: type[AsyncCallExchange] = AsyncCallExchange) -> AsyncCallExchange | None:
        """Route a request; None for a host that the mesh does not know.

        Raises:
            NotYet: See ``begun``.
        """
        mesh = self.mesh
        call, parts = self._begin(given)
        if call is None:
            return None
        exchange = kind(self._transport or mesh.cooperative, *parts)
        exchange.call = call
        if call.mirrors and not given.streamed:
            self._mirror(call, parts)
        return exchange

    async def drive(self, exchange: AsyncCallExchange) -> Any:
        """Send what was begun."""
        assert exchange.call is not None
        try:
            return await cooperative.drive(exchange.call, exchange, self.mesh.clock)
        except errors.MeshError as error:
            raise translated(error, self._faces, exchange.request) from error.__cause__
        finally:
            if exchange.replay is not None:
                self._let_go(exchange, exchange.replay)

    def _let_go(self, exchange: AsyncCallExchange, replay: AsyncReplay) -> None:
        """See ``BlockingFace._let_go``."""
        content, call = replay.content(), exchange.call
        replay.release()
        if content is not None and call is not None and call.mirrors:
            given = Whole(exchange.given, content)
            self._mirror(call, exchange.parts(given))

    def _mirror(self, call: Call, parts: tuple[Any, ...]) -> None:
        mesh = self.mesh
        for copy in router.copies(call, mesh.clock.now(), mesh.rng):
            exchange = AsyncCallExchange(self._transport or mesh.cooperative, *parts)
            exchange.call, exchange.timeouts = copy, replace(exchange.timeouts)
            mesh.mirrors.in_task(partial(_asend_copy, copy, exchange, mesh.clock))

    async def end(self) -> None:
        """Close what was made here."""
        if self._passthrough is not None:
            await self._passthrough.aclose()
        await self.mesh.cooperative.leave(self)
        if self._owns_mesh:
            await self.mesh.aclose()


def _send_copy(copy: Call, exchange: CallExchange, clock: Clock) -> None:
    response = blocking.drive(copy, exchange, clock)
    try:
        response.read()
    finally:
        response.close()


async def _asend_copy(copy: Call, exchange: AsyncCallExchange, clock: Clock) -> None:
    response = await cooperative.drive(copy, exchange, clock)
    try:
        await response.aread()
    finally:
        await response.aclose()
