"""Policies as values: what the configuration asks for. What they do stands in ``dataplane.policies``.

Times are float seconds, ratios are 0..1 unless a field says otherwise, and None means "no limit" or "off".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from meshlib.model.match import HeaderMatch

__all__ = [
    "Abort",
    "BalancerKind",
    "CircuitBreaker",
    "ConnectionPool",
    "Delay",
    "Fault",
    "HashKey",
    "Http2KeepAlive",
    "LoadBalancer",
    "LoadReports",
    "OutlierDetection",
    "PeakEwma",
    "RetryBudget",
    "RetryPolicy",
    "SlowStart",
    "SubsetFallback",
    "SubsetSelector",
    "Subsets",
    "TcpKeepalive",
    "Tls",
    "TlsMode",
    "Tunnel",
    "ZoneAware",
]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Whether a failed attempt is tried again, where, and after how long.

    Attributes:
        attempts: Retries after the first try (Istio ``retries.attempts``, Envoy ``num_retries``), at least 1.
        retry_on: Envoy's words, for example ``connect-failure``, ``5xx``, ``unavailable``.
        retriable_status_codes: Statuses behind the word ``retriable-status-codes``.
        retriable_headers: Response header names (lower case) behind the word ``retriable-headers``.
        per_try_timeout: Seconds one attempt may take until its response headers arrive; None is unbounded.
        per_try_idle_timeout: Seconds without a byte on one attempt; None is unbounded.
        base: Upper bound of the first back-off, seconds.
        cap: Upper bound of any back-off, seconds.
        avoid_previous_hosts: Draw again, up to ``host_selection_attempts`` times, while an endpoint was tried.
        host_selection_attempts: See above.
        remote_localities: After every two attempts leave out the priorities used so far.
        reset_headers: Response headers that say when to come back, as (name, is Unix time).
        reset_cap: Longest wait that such a header may ask for, seconds.
        hedge_on_per_try_timeout: An attempt whose per-try timeout runs out goes on beside the next one, and the first
            good answer is taken (Envoy ``hedge_policy``).

    Source: Envoy ``RetryPolicy``; Istio ``HTTPRetry`` and its built-in policy.
    """

    attempts: int
    retry_on: frozenset[str]
    retriable_status_codes: frozenset[int] = frozenset()
    retriable_headers: frozenset[str] = frozenset()
    per_try_timeout: float | None = None
    per_try_idle_timeout: float | None = None
    base: float = 0.025
    cap: float = 0.250
    avoid_previous_hosts: bool = True
    host_selection_attempts: int = 5
    remote_localities: bool = False
    reset_headers: tuple[tuple[str, bool], ...] = ()
    reset_cap: float = 300.0
    hedge_on_per_try_timeout: bool = False


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries of a cluster may be under way at once (Envoy ``retry_budget``).

    Attributes:
        ratio: Share of the active requests, 0..1.
        min_concurrency: Retries always allowed.
        interval: Seconds over which requests are counted; 0 counts those under way now.
    """

    ratio: float = 0.2
    min_concurrency: int = 3
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before anything is sent.

    Attributes:
        seconds: How long; None takes it from the request header ``x-envoy-fault-delay-request``, milliseconds.
        parts_per_million: Share of the requests; where a header names the time, a header may lower the share.
        denominator: What that header counts in: 100, 10,000 or 1,000,000.
    """

    seconds: float | None
    parts_per_million: int
    denominator: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Abort:
    """Answer instead of sending.

    Attributes:
        parts_per_million: Share of the requests; where a header names the status, a header may lower the share.
        http_status: At most one of this and ``grpc_status`` is set; neither takes the status from the request header
            ``x-envoy-fault-abort-request`` or ``x-envoy-fault-abort-grpc-request``.
        grpc_status: See above.
        denominator: What the header for the share counts in: 100, 10,000 or 1,000,000.
    """

    parts_per_million: int
    http_status: int | None = None
    grpc_status: int | None = None
    denominator: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected faults of a route (Istio ``HTTPFaultInjection``); both draws are independent, delay first.

    Attributes:
        delay: See ``Delay``.
        abort: See ``Abort``.
        max_active: Faults that may be under way at once in the whole mesh; None is unlimited, 0 is never.
        then: A further fault filter, asked where this one let the request pass.
        headers: Only requests for which all of these hold.
        cluster: Only requests that go to this cluster; ``""`` is any.
    """

    delay: Delay | None = None
    abort: Abort | None = None
    max_active: int | None = None
    then: Fault | None = None
    headers: tuple[HeaderMatch, ...] = ()
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Envoy's thresholds of a cluster; None is unlimited.

    Attributes:
        max_connections: Connections to all endpoints together (``tcp.maxConnections``).
        max_pending_requests: Requests that wait for a connection (``http1MaxPendingRequests``).
        max_requests: Requests under way (``http2MaxRequests``), whatever the HTTP version.
        max_retries: Retries under way (``maxRetries``).
        retry_budget: Replaces ``max_retries`` when present.
    """

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected, and for how long. The defaults are Istio's.

    Attributes:
        consecutive_5xx: Errors in a row that eject; 0 is off.
        consecutive_gateway: 502/503/504 in a row that eject; 0 is off.
        split_local_origin: Count connection-level failures apart from answers.
        consecutive_local_origin: Connection-level failures in a row that eject, when split; 0 is off.
        interval: Seconds between sweeps; ejections end at a sweep only.
        base_ejection_time: Seconds out, times the number of ejections of this endpoint.
        max_ejection_time: Longest time out, seconds.
        max_ejection_time_jitter: At most so many seconds, drawn at random, are added to each time out.
        max_ejection_percent: Percent (0..100) of all endpoints that may be out at once.
        error_codes: Statuses that count as an error instead of 5xx; empty means 5xx.
        success_rate: Envoy's success-rate detection; None is off, as Istio sets it.
        failure_percentage: Envoy's failure-percentage detection; None is off, as Istio sets it.
        always_eject_one: Allow the first ejection whatever the percentage.
        healthy_check_returns: An active health check that passes brings an ejected endpoint back at once.

    Source: Envoy ``OutlierDetection``; Istio ``OutlierDetection``.
    """

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    split_local_origin: bool = False
    consecutive_local_origin: int = 5
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    error_codes: frozenset[int] = frozenset()
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None
    always_eject_one: bool = False
    healthy_check_returns: bool = True


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Eject endpoints whose success rate is below ``mean - stdev * stdev_factor``.

    Attributes:
        minimum_hosts: Endpoints with enough volume that are needed for a verdict.
        request_volume: Results an endpoint needs in one interval.
        stdev_factor: See above; Envoy writes it times 1000.
        enforcing: Percent (0..100) of the verdicts that eject.
        enforcing_local_origin: The same for local origins, where they are counted apart.
    """

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9
    enforcing: int = 100
    enforcing_local_origin: int = 100


@dataclass(frozen=True, slots=True)
class FailurePercentage:
    """Eject endpoints whose failures reach ``threshold`` percent (0..100) in one interval; see ``SuccessRate``."""

    threshold: int = 85
    minimum_hosts: int = 5
    request_volume: int = 50
    enforcing: int = 100
    enforcing_local_origin: int = 0


class BalancerKind(Enum):
    """Load-balancing algorithms, in Istio's words; the last two are Envoy's and Finagle's, which Istio cannot name."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"
    CLIENT_SIDE_WEIGHTED_ROUND_ROBIN = "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN"
    PEAK_EWMA = "PEAK_EWMA"

    @property
    def hashes(self) -> bool:
        """Whether a key decides."""
        return self in (BalancerKind.RING_HASH, BalancerKind.MAGLEV)


@dataclass(frozen=True, slots=True)
class HashKey:
    """Where a consistent-hash key comes from (Istio ``ConsistentHashLB``, Envoy ``hash_policy``).

    Attributes:
        source: ``header``, ``cookie``, ``source_ip`` or ``query``.
        name: Header, cookie or parameter name; for ``source_ip`` the caller's address, ``""`` when unknown.
        ttl: Cookie only: None never generates one, 0 makes a session cookie, else seconds of Max-Age.
        path: Cookie only: Path attribute.
        attributes: Cookie only: further attributes as (name, value); an empty value is a bare name.
        terminal: Stop at this key when it gave a value.
        kept: Cookie only: one that was made here is remembered and used by later calls that come without it.
    """

    source: str
    name: str = ""
    ttl: float | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    terminal: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class SlowStart:
    """A new endpoint's weight grows over ``window`` seconds from ``min_ratio`` to 1, exponent 1/aggression."""

    window: float
    min_ratio: float = 0.1
    aggression: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadReports:
    """Weights from what endpoints report of their load (gRFC A58, A114; Envoy's client-side weighted round robin).

    Attributes:
        blackout: Seconds for which the reports of a new endpoint count for nothing.
        expiration: Seconds after which a report that was not renewed counts for nothing.
        update: Seconds between two computations of the weights, at least 0.1.
        error_penalty: How much an error weighs against an endpoint, at least 0.
        metrics: Names of metrics whose greatest is the utilization, for example ``named_metrics.queue`` or
            ``mem_utilization``; where none is reported the application's utilization is, then the CPU's.
    """

    blackout: float = 10.0
    expiration: float = 180.0
    update: float = 1.0
    error_penalty: float = 1.0
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """Latency as an average that jumps to peaks and decays (Finagle, linkerd).

    Attributes:
        decay: Seconds in which a measurement loses all but 1/e of its weight.
        initial: Seconds taken for the latency of an endpoint that has not answered yet.
    """

    decay: float = 10.0
    initial: float = 0.03


@dataclass(frozen=True, slots=True)
class ZoneAware:
    """Prefer endpoints of the caller's zone in proportion to what each zone can take (Envoy zone-aware routing).

    Who calls from where stands at the endpoints' groups: ``LocalityEndpoints.callers`` and ``near``.

    Attributes:
        min_cluster_size: With fewer healthy endpoints at priority 0 all zones are alike.
    """

    min_cluster_size: int = 6


class SubsetFallback(Enum):
    """What becomes of a request whose subset is empty: it fails, or goes to any, to the default, or to a wider one."""

    NO_FALLBACK = "NO_FALLBACK"
    ANY_ENDPOINT = "ANY_ENDPOINT"
    DEFAULT_SUBSET = "DEFAULT_SUBSET"
    KEYS_SUBSET = "KEYS_SUBSET"


@dataclass(frozen=True, slots=True)
class SubsetSelector:
    """Labels that a subset may be chosen by, all of them together.

    Attributes:
        keys: Names of labels.
        fallback: Where no endpoint has the wanted values; None does as ``Subsets`` says.
        fallback_keys: Some of ``keys``, which are left for ``KEYS_SUBSET``.
    """

    keys: tuple[str, ...]
    fallback: SubsetFallback | None = None
    fallback_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subsets:
    """Subsets inside one cluster, chosen by a route's ``metadata_match`` (Envoy ``lb_subset_config``).

    Attributes:
        selectors: What may be chosen by; a route that asks for other labels falls back.
        fallback: See ``SubsetFallback``; not ``KEYS_SUBSET``.
        default: Labels and values of the default subset.
    """

    selectors: tuple[SubsetSelector, ...]
    fallback: SubsetFallback = SubsetFallback.NO_FALLBACK
    default: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How one endpoint is picked among the healthy ones.

    Attributes:
        kind: The algorithm.
        hash_keys: Consistent hash only.
        min_ring_size: Ring hash only.
        table_size: Maglev only, a prime.
        slow_start: Round robin, least request and client-side weighted round robin only.
        panic_ratio: Below this share of healthy endpoints all are used; 0 never does (Istio's default).
        locality_weighted: Draw a locality by weight first, then an endpoint inside it.
        overprovisioning: Health that counts as full is 1/overprovisioning; Envoy's 140 percent.
        zone_aware: Inside priority 0, see ``ZoneAware``; None takes all zones for alike.
        max_ring_size: Ring hash only.
        hash_balance_factor: Consistent hash only: no endpoint gets more than this percentage, above 100, of an even
            share of the requests under way; 0 bounds nothing.
        choice_count: Least request only: how many different endpoints are drawn and compared.
        active_request_bias: Least request with unequal weights only: a weight is divided by the requests under way,
            and one, to this power.
        load_reports: Client-side weighted round robin only.
        peak_ewma: Peak EWMA only.
        subset_size: Use no more than so many endpoints of a priority, others in other processes; 0 uses all.
        fail_on_panic: In panic use nobody instead of everybody.
        subsets: Subsets that routes choose by labels; None has none, and what routes ask for counts for nothing.
    """

    kind: BalancerKind = BalancerKind.LEAST_REQUEST
    hash_keys: tuple[HashKey, ...] = ()
    min_ring_size: int = 1024
    table_size: int = 65537
    slow_start: SlowStart | None = None
    panic_ratio: float = 0.0
    locality_weighted: bool = False
    overprovisioning: float = 1.4
    zone_aware: ZoneAware | None = None
    max_ring_size: int = 8 * 1024 * 1024
    hash_balance_factor: int = 0
    choice_count: int = 2
    active_request_bias: float = 1.0
    load_reports: LoadReports = LoadReports()
    peak_ewma: PeakEwma = PeakEwma()
    subset_size: int = 0
    fail_on_panic: bool = False
    subsets: Subsets | None = None


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """TCP keepalive probes; None leaves the system's value. Times in seconds."""

    probes: int | None = None
    time: float | None = None
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class Http2KeepAlive:
    """HTTP/2 PING every ``interval`` seconds; without an answer in ``timeout`` seconds the connection is closed."""

    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """How connections to one endpoint are made and kept. Times in seconds, None is unlimited.

    Attributes:
        connect_timeout: TCP and TLS together; Istio's mesh default is 10 s.
        idle_timeout: An unused connection is closed after this long; Envoy's default is one hour.
        max_connection_duration: A connection is closed after this long, whatever it does.
        max_requests_per_connection: 1 switches keep-alive off.
        max_concurrent_streams: HTTP/2 only.
        tcp_keepalive: None leaves keepalive off.
        http2_keepalive: HTTP/2 only; None sends no PING.
        proxy_protocol: Version, 1 or 2, of the PROXY header written first on each connection; 0 writes none.
    """

    connect_timeout: float = 10.0
    idle_timeout: float | None = 3600.0
    max_connection_duration: float | None = None
    max_requests_per_connection: int | None = None
    max_concurrent_streams: int | None = None
    tcp_keepalive: TcpKeepalive | None = None
    http2_keepalive: Http2KeepAlive | None = None
    proxy_protocol: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Carry raw TCP to ``host``:``port`` inside an HTTP request (``CONNECT`` or ``POST``) to the endpoint."""

    host: str
    port: int
    method: str = "CONNECT"


class TlsMode(Enum):
    """Istio's ``ClientTLSSettings.mode``.

    ``AUTO`` is automatic mutual TLS: ``ISTIO_MUTUAL`` to endpoints that accept it, plaintext to the others.
    """

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    AUTO = "AUTO"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the endpoints of a cluster, every default of Istio filled in (``ClientTLSSettings``).

    Attributes:
        mode: See ``TlsMode``.
        sni: Server name to send; empty means the request's host.
        subject_alt_names: The certificate must carry one of these, compared exactly; empty asks for none.
        verify_host: The certificate must also be for the request's host (Envoy ``auto_san_validation``); ``SIMPLE``
            and ``MUTUAL`` only, a peer of the mesh is known by its identity.
        ca_certificates: PEM file of trusted roots; empty means the system's, or for mutual TLS of the mesh the mesh's.
        client_certificate: PEM file of what is shown; empty for ``SIMPLE``, and for the mesh's own certificate.
        private_key: PEM file, with ``client_certificate``.
        credential_name: Kubernetes secret that holds the above.
        verify: False accepts any certificate (``insecureSkipVerify``).
        ca_crl: PEM file of revoked certificates, or empty.
        min_version: ``TLSV1_2`` or ``TLSV1_3``; empty means TLS 1.2.
        cipher_suites: OpenSSL names for TLS 1.2; empty means the library's.
        ecdh_curves: OpenSSL names; empty means the library's.
        refused: Why nothing may be sent at all, where a sidecar would silently send plaintext; empty when usable.
    """

    mode: TlsMode = TlsMode.DISABLE
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    verify_host: bool = True
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    credential_name: str = ""
    verify: bool = True
    ca_crl: str = ""
    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    refused: str = ""

    def towards(self, accepts_mtls: bool) -> TlsMode:
        """The mode towards an endpoint, by whether it accepts mutual TLS of the mesh; never ``AUTO``."""
        if self.mode is not TlsMode.AUTO:
            return self.mode
        return TlsMode.ISTIO_MUTUAL if accepts_mtls else TlsMode.DISABLE
