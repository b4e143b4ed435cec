"""Routes: which requests of a host go where, and what happens to them on the way (Envoy ``VirtualHost``)."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.model.match import HeaderMatch, MatchKind, PathMatch, QueryMatch, RouteMatch, StringMatch
from meshlib.model.policy import Fault, HashKey, RetryPolicy

__all__ = [
    "NO_HEADERS",
    "Cors",
    "DirectResponse",
    "Forward",
    "HeaderMatch",
    "HeaderOps",
    "MatchKind",
    "Mirror",
    "PathMatch",
    "QueryMatch",
    "Redirect",
    "RegexRewrite",
    "Route",
    "RouteMatch",
    "RouteOrigin",
    "SkippedRule",
    "StringMatch",
    "VirtualHost",
    "WeightedCluster",
]


@dataclass(frozen=True, slots=True)
class HeaderOps:
    """Header operations of one level: all removes first, then sets, then adds. Values may hold ``%REQ(x)%``.

    Attributes:
        set: Overwrite or add.
        add: Append a further line.
        remove: Delete.
        set_present: Overwrite, where the header is there (Envoy ``OVERWRITE_IF_EXISTS``).
        add_absent: Add, where it is not (Envoy ``ADD_IF_ABSENT``).
    """

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    set_present: tuple[tuple[str, str], ...] = ()
    add_absent: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.set or self.add or self.remove or self.set_present or self.add_absent)


NO_HEADERS = HeaderOps()


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """One destination of a route.

    Attributes:
        cluster: Name, ``outbound|<port>|<subset>|<host>``.
        weight: Share relative to the sum; above 0 unless it is the only one.
        request_headers: Applied before the route's own.
        response_headers: Applied before the route's own.
        host_rewrite: New authority for this destination, or None; the route's own wins.
        path_rewrite: As in ``Forward``, for this destination; None leaves the route's rewrite in force.
        regex_rewrite: Instead of ``path_rewrite``.
        metadata_match: Labels and values that choose a subset of the cluster, see ``policy.Subsets``.
    """

    cluster: str
    weight: int = 1
    request_headers: HeaderOps = NO_HEADERS
    response_headers: HeaderOps = NO_HEADERS
    host_rewrite: str | None = None
    path_rewrite: str | None = None
    regex_rewrite: RegexRewrite | None = None
    metadata_match: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of ``parts_per_million`` of the requests goes to ``cluster``; its answer is thrown away."""

    cluster: str
    parts_per_million: int = 1_000_000


@dataclass(frozen=True, slots=True)
class RegexRewrite:
    """Every match of ``pattern`` (RE2) in the path is replaced; ``substitution`` knows ``\\1`` groups."""

    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on (Envoy ``RouteAction``).

    Attributes:
        clusters: Weighted destinations; one draw per call, not per attempt.
        timeout: Seconds for the whole call, retries and back-off included; None is none (Istio's default).
        retry: None never retries.
        path_rewrite: Replaces the matched prefix, or the whole path for exact and regex matches.
        regex_rewrite: Instead of ``path_rewrite``.
        host_rewrite: New authority, or None to keep the caller's.
        host_from_header: New authority: the value of that request header, where it is there.
        host_from_path: New authority: the path without its query after this substitution.
        append_forwarded_host: Tell the server in ``x-forwarded-host`` which authority was rewritten.
        mirrors: Drawn independently.
        hash_keys: Consistent-hash keys of the destinations' policies, in order.
        weight_keys: What the weighted destination is drawn by, so that one key stays with one; empty draws at random.
        max_stream_duration: Seconds for the whole stream (gRFC A31), None is none.
        grpc_timeout_max: Cap on the caller's ``grpc-timeout`` in seconds; 0 caps at infinity, None is unset.
        missing_cluster: Answer for the share of a destination that does not exist; None raises ``NoCluster``.
    """

    clusters: tuple[WeightedCluster, ...]
    timeout: float | None = None
    retry: RetryPolicy | None = None
    path_rewrite: str | None = None
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: str | None = None
    mirrors: tuple[Mirror, ...] = ()
    hash_keys: tuple[HashKey, ...] = ()
    max_stream_duration: float | None = None
    grpc_timeout_max: float | None = None
    missing_cluster: DirectResponse | None = None
    host_from_header: str | None = None
    host_from_path: RegexRewrite | None = None
    append_forwarded_host: bool = False
    weight_keys: tuple[HashKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer 3xx here (Istio ``HTTPRedirect``).

    Attributes:
        status: 301, 302, 303, 307 or 308.
        path: Replaces the whole path; with a ``?`` it replaces the query too. None keeps.
        prefix_rewrite: Replaces the matched prefix. None keeps.
        regex_rewrite: Instead of the two above.
        authority: New host, None keeps.
        port: New port, written whatever it is, but 0 writes none; None keeps the Host header's, unless the authority
            or the scheme change.
        scheme: New scheme, None keeps.
        strip_query: Drop the query.
    """

    status: int = 301
    path: str | None = None
    prefix_rewrite: str | None = None
    regex_rewrite: RegexRewrite | None = None
    authority: str | None = None
    port: int | None = None
    scheme: str | None = None
    strip_query: bool = False


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """Answer here with a fixed status and body (Istio ``HTTPDirectResponse``).

    ``grpc_status`` is what gRPC callers get instead, in an HTTP 200 without a body; None treats them as all others.
    """

    status: int
    body: bytes = b""
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins may read answers (Istio ``CorsPolicy``, Envoy's CORS filter).

    Attributes:
        allow_origins: One that matches the caller's ``Origin`` is enough.
        allow_methods: As sent in answers to preflights; ``*`` repeats what was asked for.
        allow_headers: As ``allow_methods``.
        expose_headers: As sent with answers.
        max_age: Seconds that a preflight's answer may be kept, None says nothing.
        allow_credentials: Whether answers say so.
        forward_unmatched: Preflights of other origins are sent on; False answers them with 200 and no word of CORS.
    """

    allow_origins: tuple[StringMatch, ...]
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: int | None = None
    allow_credentials: bool = False
    forward_unmatched: bool = True


@dataclass(frozen=True, slots=True)
class RouteOrigin:
    """Which object a route came from.

    Attributes:
        rule: Index in ``spec.http`` or ``spec.rules`` of the object, -1 for a default route.
        match: Index in that rule's ``match`` or ``matches``, None for a rule without any.
        object: For example ``VirtualService default/reviews``, or ``""`` for a default route.
        values: Field name (``timeout``, ``retries``, ``fault`` ...) -> object and field that it came from.
        notes: What else is worth knowing: destinations without weight, the delegate that lent the rule, parts of it
            that could not be honoured.
    """

    rule: int = -1
    match: int | None = None
    object: str = ""
    values: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One rule of a virtual host, one condition set; the first that matches decides.

    Attributes:
        name: For metrics and logs; ``default`` for a service without rules.
        match: The conditions.
        action: What to do.
        fault: Applied before the action.
        cors: Asked between fault and action; None lets every origin through without a word.
        request_headers: Operations on what is sent.
        response_headers: Operations on what comes back.
        origin: For ``explain``.
        outer_request_headers: Levels that run after the route's own: of its virtual host, of the whole table.
        outer_response_headers: The same for what comes back.
    """

    name: str
    match: RouteMatch
    action: Forward | Redirect | DirectResponse
    fault: Fault | None = None
    request_headers: HeaderOps = NO_HEADERS
    response_headers: HeaderOps = NO_HEADERS
    origin: RouteOrigin = RouteOrigin()
    cors: Cors | None = None
    outer_request_headers: tuple[HeaderOps, ...] = ()
    outer_response_headers: tuple[HeaderOps, ...] = ()


@dataclass(frozen=True, slots=True)
class SkippedRule:
    """A condition set that can never hold for this client and port, and why; for ``explain`` only."""

    rule: int
    match: int | None
    name: str
    reason: str
    object: str = ""


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What a client knows about one host on one port.

    Attributes:
        name: The host's full name, for example ``reviews.default.svc.cluster.local``.
        port: The port the client addressed.
        routes: Tried in order.
        virtual_service: ``namespace/name`` of the VirtualService in force, None when none is.
        objects: What the rules came from, for example ``HTTPRoute default/reviews``; empty for a default route.
        service: The registry's name of the host, None for a host that only a VirtualService knows.
        skipped: Rules that were left out for this client and port.
        by_address: The dialled name decides, not the Host header: nobody declared that this port speaks HTTP, or the
            rules are the Gateway API's, which asks for that.
    """

    name: str
    port: int
    routes: tuple[Route, ...]
    virtual_service: str | None = None
    service: str | None = None
    skipped: tuple[SkippedRule, ...] = ()
    by_address: bool = False
    objects: tuple[str, ...] = ()
