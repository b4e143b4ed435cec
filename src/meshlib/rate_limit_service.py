"""Asks a rate limit service, from threads and tasks, over the mesh's own connections.

A service that the mesh knows is called as any other: routed, balanced, retried, by its TLS settings. Any other address
is dialled as it stands, in plaintext. Connections are HTTP/2 and shared with all calls to the same endpoint. A question
is never counted itself, and nobody watches it.

Source: Envoy ``ratelimit`` filter: what goes wrong within the time lets the call pass, unless the policy denies.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from meshlib.dataplane import router
from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.call import Call
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.drivers import blocking, cooperative
from meshlib.dataplane.policies.rate_limit import Question, Verdict, refusal, unanswered
from meshlib.dataplane.request import Request
from meshlib.errors import MeshError
from meshlib.exchange import AsyncCallExchange, CallExchange, Faces
from meshlib.mesh import Mesh
from meshlib.model.client_policy import RateLimitService
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.route import Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.outgoing import Short
from meshlib.transport.base import BlockingTransport, CooperativeTransport, Timeouts, WireError, WireResponse
from meshlib.transport.targets import Targets

__all__ = ["RateLimitServices"]

_LOG = logging.getLogger("meshlib")
_WHOSE = "the time to wait for the rate limit service"
_LONGEST = 1 << 20
"""Bytes; an answer that is longer is none."""


class _Asking(CallExchange):
    def accept(self, call: Call, reply: WireResponse) -> WireResponse:
        """What came off the wire; whoever asks reads it."""
        self.timeouts.deadline = call.deadline
        return reply


class _AsyncAsking(AsyncCallExchange):
    def accept(self, call: Call, reply: WireResponse) -> WireResponse:
        """See ``_Asking``."""
        self.timeouts.deadline = call.deadline
        return reply


class RateLimitServices:
    """All rate limit services that the policies of a mesh name.

    Args:
        mesh: Whose calls are counted.
        targets: How endpoints are reached.
    """

    def __init__(self, mesh: Mesh, targets: Targets) -> None:
        self._mesh = mesh
        self._targets = targets
        self._direct: dict[tuple[str, int], BoundRoute] = {}
        self._failing: set[RateLimitService] = set()

    def ask(self, question: Question, seconds: float, transport: BlockingTransport) -> Verdict:
        """See ``Exchange.ask``."""
        clock = self._mesh.clock
        try:
            call, parts = self._begin(question, seconds)
            exchange = _Asking(transport, *parts)
            exchange.call = call
            reply: WireResponse = blocking.drive(call, exchange, clock)
            try:
                body = reply.body.whole() or b"".join(reply.body)
            finally:
                reply.body.close()
                call.close(clock.now())
            return self._answered(question.service, _verdict(reply, body))
        except (MeshError, WireError, ValueError) as error:
            return self._failed(question.service, error)

    async def aask(self, question: Question, seconds: float, transport: CooperativeTransport) -> Verdict:
        """See ``AsyncExchange.ask``."""
        clock = self._mesh.clock
        try:
            call, parts = self._begin(question, seconds)
            exchange = _AsyncAsking(transport, *parts)
            exchange.call = call
            reply: WireResponse = await cooperative.drive(call, exchange, clock)
            try:
                body = reply.body.whole() or b"".join([chunk async for chunk in reply.body])
            finally:
                await reply.body.aclose()
                call.close(clock.now())
            return self._answered(question.service, _verdict(reply, body))
        except (MeshError, WireError, ValueError) as error:
            return self._failed(question.service, error)

    def _answered(self, service: RateLimitService, verdict: Verdict) -> Verdict:
        if service in self._failing:
            self._failing.discard(service)
            _LOG.warning("the rate limit service %s:%d answers again", service.host, service.port)
        return verdict

    def _failed(self, service: RateLimitService, error: Exception) -> Verdict:
        """The verdict without an answer; the first of several failures is told."""
        if service not in self._failing:
            self._failing.add(service)
            fate = "pass" if service.fail_open else "are answered 500"
            _LOG.warning(
                "the rate limit service %s:%d failed, calls %s until it answers: %s",
                service.host,
                service.port,
                fate,
                error,
            )
        return unanswered(service)

    def _begin(self, question: Question, seconds: float) -> tuple[Call, tuple[Any, ...]]:
        """A routed call that carries the question, and what an exchange for it is made of.

        What is imported at first use is imported before the time begins: it would outlast the usual 20 ms, and calls
        of a process that has just started would pass, or be refused, without being counted.
        """
        from meshlib.transport.http2 import blocking_pool, cooperative_pool  # noqa: F401
        from meshlib.xds.rate_limit import METHOD, encode_question

        mesh, service = self._mesh, question.service
        body = encode_question(service.domain, question.entries)
        host = f"[{service.host}]" if ":" in service.host else service.host
        authority = f"{host}:{service.port}"
        core = Request("POST", "http", authority, service.port, METHOD, _headers(authority, body), is_grpc=True)
        core.timeout, core.timeout_of = seconds, _WHOSE
        now, known = mesh.clock.now(), mesh.prepared.host(service.host, service.port)
        call = router.begin(mesh.prepared, core, now, mesh.rng) if known is not None else None
        if call is None:
            call = self._straight(service, core, now)
        call.limiter = None
        given = Short(core, b"POST", body, Timeouts(), lambda short: None)
        return call, (given, _NO_LIBRARY, self._targets, mesh.clock, None, True, mesh.replays)

    def _straight(self, service: RateLimitService, core: Request, now: float) -> Call:
        """A call to an address that the mesh does not know."""
        mesh, key = self._mesh, (service.host, service.port)
        if key not in self._direct:
            name = f"rate_limit_service|{service.host}|{service.port}"
            cluster = Cluster(name, *key, discovery=Discovery.ORIGINAL_DST, protocol=Protocol.HTTP2)
            prepared = PreparedCluster(cluster, mesh.state.cluster(name), (), now, mesh.rng)
            weighted = WeightedCluster(name)
            action = Forward((weighted,))
            route = Route(name, RouteMatch(), action)
            self._direct[key] = BoundRoute(route, (Destination(weighted, route, action, prepared),))
        bound = self._direct[key]
        host = VirtualHost(*key, (bound.route,))
        return Call(core, host, bound, bound.destinations[0], now, mesh.rng)


def _headers(authority: str, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", authority.encode("ascii", "replace")),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"meshlib"),
        (b"content-length", b"%d" % len(body)),
    ]


def _verdict(reply: WireResponse, body: bytes) -> Verdict:
    """What an answer means.

    Raises:
        ValueError: It is none.
    """
    from meshlib.xds.rate_limit import decode_answer

    told = {name.lower(): value.decode("latin-1") for name, value in reply.headers}
    if reply.status != 200 or told.get(b"grpc-status", "0") != "0":
        words = f"{told.get(b'grpc-status', '-')} {told.get(b'grpc-message', '')}".strip()
        raise ValueError(f"it answered with status {reply.status}, grpc-status {words}")
    if len(body) > _LONGEST:
        raise ValueError(f"its answer has {len(body)} bytes, {_LONGEST} are the most")
    answer = decode_answer(body)
    if answer.over:
        return Verdict(refusal(answer.body, answer.response_headers))
    return Verdict(None, answer.request_headers, answer.response_headers)


def _none(*_: Any, **__: Any) -> Any:
    raise AssertionError("nobody outside sees a question")


def _no_context(**_: Any) -> ssl.SSLContext:
    raise AssertionError("questions are asked by http URLs")


_NO_LIBRARY = Faces(_none, _none, _none, _none, type(None), _no_context, _none, _none, errors={}, both={})
