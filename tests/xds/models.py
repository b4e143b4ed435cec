"""Random values of the model, in the one form of several that mean the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from meshlib.model.cluster import Cluster, Discovery, Protocol, cluster_name
from meshlib.model.domains import RouteTable
from meshlib.model.endpoint import Endpoint, Health, Locality, LocalityEndpoints, Workload
from meshlib.model.match import HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch
from meshlib.model.policy import (
    Abort,
    BalancerKind,
    CircuitBreaker,
    ConnectionPool,
    Delay,
    FailurePercentage,
    Fault,
    HashKey,
    Http2KeepAlive,
    LoadBalancer,
    LoadReports,
    OutlierDetection,
    PeakEwma,
    RetryBudget,
    RetryPolicy,
    SlowStart,
    SubsetFallback,
    Subsets,
    SubsetSelector,
    SuccessRate,
    TcpKeepalive,
    Tls,
    TlsMode,
    ZoneAware,
)
from meshlib.model.route import (
    Cors,
    DirectResponse,
    Forward,
    HeaderOps,
    Mirror,
    Redirect,
    RegexRewrite,
    Route,
    RouteOrigin,
    VirtualHost,
    WeightedCluster,
)

LABEL_PAIRS = st.sampled_from([(), (("version", "v1"),), (("stage", "prod"), ("version", "v2"))])
"""Labels with their values, in order."""


def optional(strategy):
    return st.none() | strategy


def some(strategy, most=2):
    return st.lists(strategy, max_size=most).map(tuple)


SECONDS = st.integers(1, 100_000).map(lambda milliseconds: milliseconds / 1000)
WORDS = st.sampled_from(["a", "b-c", "Über", "x y", "%REQ(x)%"])
HEADERS = st.sampled_from(["x-one", "x-two", "x-three"])
CLUSTERS = st.sampled_from([cluster_name("a.ns.svc.cluster.local", 80), cluster_name("b.example.com", 8080, "v1"), "c"])
PATTERNS = st.sampled_from(["/a.*", "[a-c]+", ".*"])
SHARES = st.sampled_from([(0, 100), (250_000, 100), (1_000_000, 10_000), (123_400, 10_000), (7, 1_000_000)])
QUARTERS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
PERCENT = st.integers(0, 100)


def texts(kinds, values=WORDS):
    plain = st.builds(StringMatch, st.sampled_from(kinds), values, st.booleans())
    return plain | st.builds(StringMatch, st.just(MatchKind.REGEX), PATTERNS)


TEXTS = texts([MatchKind.EXACT, MatchKind.PREFIX, MatchKind.SUFFIX, MatchKind.CONTAINS])
RANGES = st.builds(lambda a, b: StringMatch(MatchKind.RANGE, f"{a}:{a + b}"), st.integers(-9, 9), st.integers(1, 9))
PATHS = texts([MatchKind.EXACT, MatchKind.PREFIX, MatchKind.SEGMENT_PREFIX], st.sampled_from(["/a", "/a/b", "/A.b"]))
HEADER_MATCHES = st.builds(
    lambda name, value, invert, missing: HeaderMatch(name, value, invert, missing and value is not None),
    HEADERS | st.sampled_from([":method", ":authority"]),
    optional(TEXTS | RANGES),
    st.booleans(),
    st.booleans(),
)
MATCHES = st.builds(
    RouteMatch,
    optional(PATHS),
    some(HEADER_MATCHES),
    some(st.builds(QueryMatch, WORDS, optional(TEXTS))),
    st.booleans(),
    optional(st.integers(0, 1_000_000)),
)
PAIRS = st.dictionaries(HEADERS, WORDS, max_size=2).map(lambda found: tuple(found.items()))
OPS = st.builds(HeaderOps, PAIRS, some(st.tuples(HEADERS, WORDS)), some(HEADERS), PAIRS, PAIRS)
REWRITES = st.builds(RegexRewrite, PATTERNS, st.sampled_from(["\\1", "x", "\\0-\\0"]))
KEYS = st.one_of(
    st.builds(HashKey, st.just("header"), HEADERS, terminal=st.booleans()),
    st.builds(HashKey, st.just("query"), WORDS, terminal=st.booleans()),
    st.builds(HashKey, st.just("source_ip"), terminal=st.booleans()),
    st.builds(
        HashKey,
        st.just("cookie"),
        WORDS,
        optional(st.just(0.0) | SECONDS),
        st.sampled_from(["", "/"]),
        some(st.tuples(WORDS, WORDS)),
        st.booleans(),
    ),
)
RETRIES = st.builds(
    lambda base, cap, **given: RetryPolicy(
        base=base / 1000, cap=base * 10 / 1000, reset_cap=cap if given["reset_headers"] else 300.0, **given
    ),
    st.integers(1, 999),
    SECONDS,
    attempts=st.integers(1, 9),
    retry_on=st.frozensets(st.sampled_from(["5xx", "reset", "unavailable"]), min_size=1),
    retriable_status_codes=st.frozensets(st.integers(200, 599), max_size=2),
    retriable_headers=st.frozensets(HEADERS, max_size=2),
    per_try_timeout=optional(SECONDS),
    per_try_idle_timeout=optional(SECONDS),
    avoid_previous_hosts=st.booleans(),
    host_selection_attempts=st.integers(1, 9),
    remote_localities=st.booleans(),
    reset_headers=some(st.tuples(HEADERS, st.booleans())),
    hedge_on_per_try_timeout=st.booleans(),
)
HOSTS = st.sampled_from(["a.example.com", "b:80"])


@st.composite
def forwards(draw):
    several = draw(st.lists(weighted(), min_size=1, max_size=3).map(tuple))
    path = draw(st.sampled_from([{}, {"path_rewrite": "/x"}, {"regex_rewrite": draw(REWRITES)}]))
    host = draw(
        st.sampled_from(
            [{}, {"host_rewrite": "a.b"}, {"host_from_header": "x-host"}, {"host_from_path": draw(REWRITES)}]
        )
    )
    return Forward(
        several,
        draw(optional(SECONDS)),
        draw(optional(RETRIES)),
        mirrors=draw(some(st.builds(Mirror, CLUSTERS, st.integers(1, 1_000_000)))),
        hash_keys=draw(some(KEYS)),
        max_stream_duration=draw(optional(st.just(0.0) | SECONDS)),
        grpc_timeout_max=draw(optional(st.just(0.0) | SECONDS)),
        missing_cluster=draw(st.sampled_from([None, DirectResponse(404), DirectResponse(500)])),
        append_forwarded_host=draw(st.booleans()),
        **path,
        **host,
    )


def weighted():
    full = st.builds(
        WeightedCluster, CLUSTERS, st.integers(1, 100), OPS, OPS, optional(HOSTS), metadata_match=LABEL_PAIRS
    )
    return full | st.builds(WeightedCluster, CLUSTERS)


@st.composite
def redirects(draw):
    path = draw(st.sampled_from([{}, {"path": "/x?y"}, {"prefix_rewrite": "/p"}, {"regex_rewrite": draw(REWRITES)}]))
    return Redirect(
        draw(st.sampled_from([301, 302, 303, 307, 308])),
        authority=draw(optional(HOSTS)),
        port=draw(optional(st.integers(1, 65535))),
        scheme=draw(st.sampled_from([None, "http", "https"])),
        strip_query=draw(st.booleans()),
        **path,
    )


DELAYS = st.builds(lambda seconds, share: Delay(seconds, *share), optional(SECONDS), SHARES)
ABORTS = st.builds(
    lambda share, status: Abort(share[0], denominator=share[1], **status),
    SHARES,
    st.sampled_from([{}, {"http_status": 503}, {"grpc_status": 0}, {"grpc_status": 14}]),
)
FAULT = st.builds(
    Fault,
    optional(DELAYS),
    optional(ABORTS),
    optional(st.integers(0, 9)),
    headers=some(HEADER_MATCHES),
    cluster=st.just("") | CLUSTERS,
).filter(lambda fault: fault.delay is not None or fault.abort is not None)
FAULTS = FAULT | st.builds(lambda first, second: Fault(first.delay, first.abort, then=second), FAULT, FAULT)
CORS = st.builds(
    Cors,
    some(TEXTS),
    st.sampled_from(["", "GET,POST", "*"]),
    st.sampled_from(["", "x-one"]),
    st.sampled_from(["", "x-one"]),
    optional(st.integers(0, 9999)),
    st.booleans(),
    st.booleans(),
)
ORIGINS = st.just(RouteOrigin()) | st.builds(
    RouteOrigin, st.integers(0, 9), optional(st.integers(0, 9)), st.just("VirtualService ns/x")
)
ANSWERS = st.builds(DirectResponse, st.integers(200, 599), st.sampled_from([b"", b"hello", b"\x00\xff"]))


@st.composite
def hosts(draw, number):
    outer = [tuple(draw(st.lists(OPS.filter(bool), max_size=1))) for _ in range(2)]
    routes = draw(
        some(
            st.builds(
                Route,
                WORDS,
                MATCHES,
                forwards() | redirects() | ANSWERS,
                optional(FAULTS),
                OPS,
                OPS,
                ORIGINS,
                optional(CORS),
                st.just(outer[0]),
                st.just(outer[1]),
            ),
            2,
        )
    )
    owner = draw(st.sampled_from([None, "ns/rules"])) if routes else None
    name, service = f"h{number}.ns.svc.cluster.local", draw(st.sampled_from([None, "h.ns.svc.cluster.local"]))
    return VirtualHost(name, draw(st.integers(1, 65535)), routes, owner, service), (name, f"h{number}.ns")


@st.composite
def tables(draw):
    found = tuple(draw(hosts(number)) for number in range(draw(st.integers(0, 2))))
    return RouteTable(draw(WORDS), found, draw(st.booleans()))


# Clusters -------------------------------------------------------------------------------------------------------------

LOCALITIES = st.builds(Locality, st.sampled_from(["", "r1", "r2"]), st.sampled_from(["", "z1"]))
ADDRESSES = st.sampled_from([("10.0.0.1", 80), ("10.0.0.2", 8080), ("fd00::1", 80), ("unix:///run/x", 0)])
NAMES = st.sampled_from(["", "x"])


@st.composite
def endpoints(draw, locality, addresses=ADDRESSES):
    address, port = draw(addresses)
    return Endpoint(
        address,
        port,
        draw(st.dictionaries(st.sampled_from(["app", "version"]), WORDS, max_size=2)),
        draw(st.integers(1, 9)),
        draw(st.just(locality) | LOCALITIES),
        draw(st.sampled_from(list(Health))),
        draw(st.booleans()),
        draw(NAMES),
        draw(st.builds(Workload, *[NAMES] * 6)),
        draw(NAMES),
    )


@st.composite
def groups(draw, addresses=ADDRESSES):
    locality = draw(LOCALITIES)
    found = draw(some(endpoints(locality, addresses)))
    return LocalityEndpoints(found, locality, draw(st.integers(0, 3)), draw(optional(st.integers(1, 9))))


ASSIGNMENTS = some(groups())
NAMED = st.builds(
    lambda endpoint: (LocalityEndpoints((endpoint,), Locality()),),
    endpoints(Locality(), st.sampled_from([("db.example.com", 80), ("10.0.0.1", 80)])),
)
REPORTS = st.builds(
    LoadReports,
    SECONDS,
    SECONDS,
    st.integers(100, 9999).map(lambda milliseconds: milliseconds / 1000),
    st.sampled_from([0.0, 1.5]),
    some(st.just("named_metrics.queue")),
    optional(SECONDS),
)
SUBSETS = st.builds(
    Subsets,
    st.lists(
        st.builds(
            SubsetSelector,
            st.just(("stage", "version")),
            st.none() | st.sampled_from(SubsetFallback),
            st.just(("stage",)),
        )
        | st.builds(SubsetSelector, st.just(("version",))),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.sampled_from([each for each in SubsetFallback if each is not SubsetFallback.KEYS_SUBSET]),
    LABEL_PAIRS,
)
SLOW = st.builds(SlowStart, SECONDS, QUARTERS, st.sampled_from([0.5, 1.0, 2.0]))


@st.composite
def balancers(draw, original, overprovisioning):
    kinds = [kind for kind in BalancerKind if kind is not BalancerKind.PASSTHROUGH]
    kind = BalancerKind.PASSTHROUGH if original else draw(st.sampled_from(kinds))
    given = {}
    if kind is BalancerKind.RING_HASH:
        given["min_ring_size"] = draw(st.integers(1, 9999))
        given["max_ring_size"] = draw(st.integers(9999, 8_388_608))
    if kind.hashes:
        given["hash_balance_factor"] = draw(st.sampled_from([0, 101, 150]))
    if kind is BalancerKind.MAGLEV:
        given["table_size"] = draw(st.sampled_from([13, 65537, 5_000_011]))
    if kind in (BalancerKind.ROUND_ROBIN, BalancerKind.LEAST_REQUEST, BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN):
        given["slow_start"] = draw(optional(SLOW))
    if kind is BalancerKind.LEAST_REQUEST:
        given["choice_count"] = draw(st.integers(2, 9))
        given["active_request_bias"] = draw(st.sampled_from([0.0, 1.0, 1.5]))
    if kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        given["load_reports"] = draw(REPORTS)
    if kind is BalancerKind.PEAK_EWMA:
        given["peak_ewma"] = draw(st.builds(PeakEwma, SECONDS, SECONDS))
    zone = draw(optional(st.builds(ZoneAware, st.integers(0, 9))))
    weighted = zone is None and draw(st.booleans())
    if kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        zone = None
    return LoadBalancer(
        kind,
        panic_ratio=draw(QUARTERS),
        locality_weighted=weighted,
        zone_aware=zone,
        overprovisioning=overprovisioning,
        subset_size=draw(st.integers(0, 9)),
        fail_on_panic=draw(st.booleans()),
        subsets=draw(optional(SUBSETS)),
        **given,
    )


LIMITS = optional(st.integers(0, 9999))
BREAKERS = st.builds(
    CircuitBreaker,
    LIMITS,
    LIMITS,
    LIMITS,
    LIMITS,
    optional(st.builds(RetryBudget, QUARTERS, st.integers(0, 9), st.sampled_from([0.0, 1.5]))),
)
SUCCESS = st.builds(SuccessRate, PERCENT, PERCENT, st.sampled_from([1.9, 0.5]), st.integers(1, 100), PERCENT)
FAILURES = st.builds(FailurePercentage, PERCENT, PERCENT, PERCENT, st.integers(1, 100), PERCENT)
OUTLIERS = st.builds(
    lambda base, more, **given: OutlierDetection(
        base_ejection_time=base / 1000, max_ejection_time=(base + more) / 1000, **given
    ),
    st.integers(1, 9999),
    st.integers(0, 9999),
    consecutive_5xx=st.integers(0, 9),
    consecutive_gateway=st.integers(0, 9),
    split_local_origin=st.booleans(),
    consecutive_local_origin=st.integers(0, 9),
    interval=SECONDS,
    max_ejection_time_jitter=st.just(0.0) | SECONDS,
    max_ejection_percent=PERCENT,
    error_codes=st.frozensets(st.sampled_from([429, 500, 503]), max_size=3),
    success_rate=optional(SUCCESS),
    failure_percentage=optional(FAILURES),
    always_eject_one=st.booleans(),
    healthy_check_returns=st.booleans(),
)
KEEPALIVES = st.builds(TcpKeepalive, *[optional(st.integers(1, 999)) for _ in range(3)])


@st.composite
def pools(draw, protocol):
    speaks_2 = protocol in (Protocol.HTTP2, Protocol.CALLER)
    return ConnectionPool(
        draw(SECONDS),
        draw(optional(SECONDS)),
        draw(optional(SECONDS)),
        draw(optional(st.integers(1, 99))),
        draw(optional(st.integers(1, 99))) if speaks_2 else None,
        draw(optional(KEEPALIVES)),
        draw(optional(st.builds(Http2KeepAlive, SECONDS, SECONDS))) if speaks_2 else None,
        draw(st.integers(0, 2)),
    )


@st.composite
def tls(draw):
    mode = draw(st.sampled_from(list(TlsMode)))
    if mode is TlsMode.DISABLE:
        return Tls()
    common = {
        "sni": draw(st.sampled_from(["", "sni.example.com"])),
        "subject_alt_names": draw(some(st.sampled_from(["spiffe://td/ns/x/sa/y", "a.example.com"]))),
        "min_version": draw(st.sampled_from(["", "TLSV1_2", "TLSV1_3"])),
        "cipher_suites": draw(some(st.just("ECDHE-RSA-AES128-GCM-SHA256"), 1)),
        "ecdh_curves": draw(some(st.just("P-256"), 1)),
    }
    if mode in (TlsMode.ISTIO_MUTUAL, TlsMode.AUTO):
        return Tls(mode, verify_host=False, **common)
    credential = draw(st.sampled_from(["", "secret"]))
    verify = draw(st.booleans())
    files = mode is TlsMode.MUTUAL and not credential
    return Tls(
        mode,
        verify_host=draw(st.booleans()),
        ca_certificates=draw(st.sampled_from(["", "/ca.pem"])) if verify and not credential else "",
        client_certificate="/cert.pem" if files else "",
        private_key="/key.pem" if files else "",
        credential_name=credential,
        verify=verify,
        ca_crl=draw(st.sampled_from(["", "/crl.pem"])),
        **common,
    )


@st.composite
def clusters(draw):
    """A cluster and the endpoints that travel inside it."""
    discovery = draw(st.sampled_from(list(Discovery)))
    dns = discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
    service, port, subset = (
        draw(HOSTS.map(lambda host: host.partition(":")[0])),
        draw(st.integers(1, 65535)),
        draw(NAMES),
    )
    protocol, original = draw(st.sampled_from(list(Protocol))), discovery is Discovery.ORIGINAL_DST
    plain = protocol is Protocol.TCP
    made = Cluster(
        cluster_name(service, port, subset),
        service,
        port,
        subset,
        discovery,
        protocol,
        draw(balancers(original, draw(st.sampled_from([1.4, 1.0, 2.0])) if dns else 1.4)),
        draw(BREAKERS),
        draw(optional(OUTLIERS)),
        draw(pools(Protocol.HTTP1 if plain else protocol)),
        replace(draw(tls()), refused=draw(st.sampled_from(["", "no way to an identity"]))),
        draw(st.integers(0, 65535)) if original else 0,
        draw(NAMES),
        draw(st.booleans()),
        dns_refresh=draw(SECONDS) if dns else 60.0,
    )
    return made, draw(NAMED) if dns else ()
