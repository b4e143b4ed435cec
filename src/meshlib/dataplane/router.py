"""From a request to a call: host, rule, faults, destination."""

from __future__ import annotations

import random
from functools import partial

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.call import Call, Injection
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.events import Observer
from meshlib.dataplane.path import may_change, normalize_path
from meshlib.dataplane.policies.fault import inject
from meshlib.dataplane.policies.hash_key import Maker, hash_key
from meshlib.dataplane.policies.hedge import Hedging
from meshlib.dataplane.prepared import Prepared, PreparedHost
from meshlib.dataplane.reply import abort_reply, direct_reply, fitted, redirect_reply
from meshlib.dataplane.request import Request
from meshlib.errors import NoCluster, NoRoute, NotYet, UnknownHost
from meshlib.model.client_policy import Hedge
from meshlib.model.route import DirectResponse, Forward, Redirect
from meshlib.model.snapshot import OutboundPolicy

__all__ = ["begin", "copies", "refuse_awaited", "refuse_unknown"]


def begin(
    prepared: Prepared, request: Request, now: float, rng: random.Random, observer: Observer | None = None
) -> Call | None:
    """Route ``request``; None when its host is unknown and goes straight to its address (Istio ALLOW_ANY).

    Raises:
        NoRoute: No rule of the host matched.
        UnknownHost: The host is unknown under REGISTRY_ONLY.
        NoCluster: The rule's destination does not exist, and the rule has no answer for that.
        NotYet: Nothing is known yet of the host, or of where the rule's destination is; ask again later.
    """
    host = prepared.host_of(request)
    if host is None:
        refuse_unknown(prepared, request)
        return None
    if may_change(request.path):
        request.path = normalize_path(request.path, prepared.snapshot.path_normalization)
    bound = host.find(request, rng)
    maker: Maker | None = None
    cookies: tuple[bytes, ...] = ()
    if bound is None:
        destination = None
    elif bound.keys:
        maker = Maker(rng, prepared.state.cookies, host.host.name, now)
        destination, cookies = _draw_by_key(bound, request, maker, rng)
    else:
        destination = bound.draw(rng)
    if destination is not None and destination.cluster is not None and destination.cluster.awaited:
        refuse_awaited(destination.cluster, request)
    if bound is not None and request.extended:
        bound = bound.asked_by(request)
    call = Call(request, host.host, bound, destination, now, rng)
    if observer is not None:
        call.observe(observer.call_started(call, now))
    if bound is None:
        raise call.fail(NoRoute, f"no rule of {_described(host)} matches {request.method} {request.path}", now)
    beyond = destination.cluster.beyond if destination is not None and destination.cluster is not None else None
    if bound.faults:
        if beyond is not None and beyond.faults_below_retries:
            call.draw_fault = partial(_meet_fault, prepared, bound, rng)
        else:
            _draw_faults(call, prepared, bound, rng)
    if bound.answers and call.answer is None:
        _answer_here(call, bound)
    if call.answer is not None:
        call.answer = fitted(call.answer, request)
    if maker is not None:
        call.hash_key, made = hash_key(bound.hash_keys, request, maker)
        call.cookies = cookies + made
    if call.answer is None and (destination is None or destination.cluster is None):
        _answer_missing(call, bound, now)
    if (bound.hedges or beyond is not None) and call.answer is None and request.repeatable:
        call.hedge = _hedging(bound, beyond.hedge if beyond is not None else None, request)
    if destination is not None and destination.cluster is not None:
        call.limiter = destination.cluster.limiter
    return call


def _draw_by_key(
    bound: BoundRoute, request: Request, maker: Maker, rng: random.Random
) -> tuple[Destination | None, tuple[bytes, ...]]:
    """One of the weighted destinations, by the key that they are drawn by, and the cookies that were made for it."""
    if not bound.weight_keys:
        return bound.draw(rng), ()
    key, cookies = hash_key(bound.weight_keys, request, maker)
    return bound.draw(rng) if key is None else bound.owner(key), cookies


def copies(call: Call, now: float, rng: random.Random) -> list[Call]:
    """Calls that mirror ``call``, each drawn by itself; nobody watches them, and their answers are thrown away.

    A copy is sent when the body is at hand: at once, or once it was sent whole. Its own body can always be repeated,
    its host, route and timeout are the call's. Source: Istio ``mirror``/``mirrors``, Envoy shadowing.
    """
    drawn = [bound for share, bound in call.mirrors if rng.random() * 1_000_000 < share]
    made = [Call(call.request, call.host, bound, bound.destinations[0], now, rng) for bound in drawn]
    for copy in made:
        copy.delay = call.delay  # an injected delay comes before the copies are made (Envoy)
    return made


def refuse_awaited(cluster: PreparedCluster, request: Request) -> None:
    """Leave it to the caller to wait for a cluster whose DNS names are looked up for the first time.

    Raises:
        NotYet: Always.
    """
    raise NotYet(request.host, request.port, cluster.cluster.name, cluster.awaited)


def refuse_unknown(prepared: Prepared, request: Request) -> None:
    """Let a host pass that the mesh does not know, unless the outbound policy refuses it.

    Raises:
        UnknownHost: The policy is REGISTRY_ONLY.
    """
    if prepared.snapshot.outbound_policy is OutboundPolicy.REGISTRY_ONLY:
        raise UnknownHost(f"host {request.host}:{request.port} is not in the registry, and the mesh is REGISTRY_ONLY")


def _draw_faults(call: Call, prepared: Prepared, bound: BoundRoute, rng: random.Random) -> None:
    state = prepared.state
    cluster = call.destination.name if call.destination is not None else ""
    found = inject(bound.faults, call.request, cluster, rng.randrange, state.active_faults)
    if not found.active:
        return
    call.hold_faults(state, found.active)
    if found.delay:
        call.delay = found.delay
        call.flag("DI")
    if found.abort is not None:
        call.answer = abort_reply(found.abort)
        call.flag("FI")


def _meet_fault(prepared: Prepared, bound: BoundRoute, rng: random.Random, call: Call) -> Injection | None:
    """The fault of one attempt, where faults count as answers of an endpoint (ClientPolicy ``faultsBelowRetries``)."""
    state, cluster = prepared.state, call.destination.name if call.destination is not None else ""
    found = inject(bound.faults, call.request, cluster, rng.randrange, state.active_faults)
    if not found.active:
        return None
    call.hold_faults(state, found.active)
    if found.delay:
        call.flag("DI")
    if found.abort is None:
        return found.delay, None
    call.flag("FI")
    return found.delay, fitted(abort_reply(found.abort), call.request)


def _hedging(bound: BoundRoute, policy: Hedge | None, request: Request) -> Hedging | None:
    """How attempts may run side by side; None leaves them one after the other."""
    if policy is not None and request.method in policy.methods:
        return Hedging(policy.after, policy.max_attempts, bound.hedges)
    return Hedging(on_timeout=True) if bound.hedges else None


def _answer_here(call: Call, bound: BoundRoute) -> None:
    """Preflight, redirect or direct response; the cross-origin rules are asked before the action (Envoy).

    A redirect's new path is also what values of response headers see (Envoy ``rewritePathHeader``).
    """
    action, request = bound.route.action, call.request
    if bound.cors is not None and (preflight := bound.cors.preflight(request)) is not None:
        call.answer = preflight
    elif isinstance(action, Redirect):
        call.answer = redirect_reply(action, bound.path_rewrite, request)
        if bound.path_rewrite is not None:
            path, mark, query = request.path.partition("?")
            call.target = bound.path_rewrite(path) + mark + query
    elif isinstance(action, DirectResponse):
        call.answer = direct_reply(action)


def _answer_missing(call: Call, bound: BoundRoute, now: float) -> None:
    """Nothing to send to: the Gateway API asks for an answer, Istio's own rules for an error."""
    name = call.destination.name if call.destination is not None else "none"
    action = bound.route.action
    if not isinstance(action, Forward) or action.missing_cluster is None:
        raise call.fail(NoCluster, f"cluster {name} does not exist", now)
    call.answer = fitted(direct_reply(action.missing_cluster, NoCluster.flag), call.request)
    call.flag(NoCluster.flag)


def _described(host: PreparedHost) -> str:
    virtual_service = host.host.virtual_service
    named = f"VirtualService {virtual_service}" if virtual_service else f"host {host.host.name}"
    return " and ".join(host.host.objects) or named
