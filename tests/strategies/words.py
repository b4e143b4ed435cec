"""Texts and numbers by the name of the field that they stand in; a few of them are wrong, or hostile."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

__all__ = [
    "ADDRESSES",
    "HOSTS",
    "NAMES",
    "NAMESPACES",
    "durations",
    "integers",
    "json_values",
    "mostly",
    "numbers",
    "texts",
]

NAMES = ["a", "b", "c"]
NAMESPACES = ["default", "shop", "istio-system"]
HOSTS = ["a", "b", "c", "a.shop", "a.default.svc.cluster.local", "*.example.com", "x.example.com", "*", "10.0.0.1"]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.0/24", "unix:///tmp/s", "a.example.com"]
_LABELS = ["v1", "v2", "a", "b", "app", "version"]

_PATHS = ["/", "/a", "/a/b", "", "/b?x=1", "%zz", "/../a"]
_REGEXES = ["/a.*", ".*", "*", "(", "a{1000}", "((a{100}){100}){100}", "(a*)*b", "\\1", "(?i)a", "[[:alpha:]]", "\\pN"]
_HEADERS = ["x-one", "X-Two", "end-user", "host", ":authority", ":path", "cookie", "content-length", "a b", ""]
_VALUES = ["", "1", "jason", "%REQ(x)%", "%", "%%", "\x00", "é", "a,b", "50%"]

_BY_FIELD = {
    "host": HOSTS[:7],
    "hosts": HOSTS[:7],
    "name": [*NAMES, "http", "grpc-x", "v1", "v2"],
    "subset": ["v1", "v2", "v9", ""],
    "namespace": [*NAMESPACES, ""],
    "namespaces": NAMESPACES,
    "exportTo": ["*", ".", "~", "shop", "default"],
    "egressHosts": ["default/a", "./a", "*/*", "./*", "shop/*.example.com", "~/*"],
    "method": ["GET", "POST"],
    "gateways": ["mesh", "default/a", "a"],
    "regex": _REGEXES,
    "match": _REGEXES,
    "rewrite": ["\\1", "/x\\0", "\\9", "\\", "x"],
    "prefix": _PATHS,
    "exact": [*_PATHS, "1", "jason", "GET", "a"],
    "uri": _PATHS,
    "address": ADDRESSES,
    "addresses": ADDRESSES,
    "protocol": ["HTTP", "http2", "GRPC", "TCP", "TLS", "HTTPS", "UDP", "what"],
    "scheme": ["http", "https", "gopher"],
    "retryOn": ["5xx", "connect-failure,503", "what", "retriable-4xx, reset"],
    "locality": ["us/a", "us/a/1", "eu", "*", "us.b"],
    "from": ["us/a", "us/*", "eu", "*"],
    "to": ["us", "eu"],
    "httpHeaderName": _HEADERS,
    "grpcStatus": ["UNAVAILABLE", "WHAT", "14"],
    "allowMethods": ["GET", "*", "WHAT"],
    "externalName": HOSTS,
    "targetPort": ["http", "8080"],
    "type": ["ClusterIP", "ExternalName", "What"],
    "clusterIP": ["10.0.0.1", "None", "", "nowhere"],
    "clusterIPs": ["10.0.0.1", "None", "::1"],
    "zone": ["a", "b"],
    "addressType": ["IPv4", "IPv6", "FQDN"],
    "jwksUri": ["https://a.example.com/keys", "file:///etc/passwd", "x"],
    "issuer": ["https://a.example.com", ""],
    "mesh": ["outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "a: *b", "[[[["],
}


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Usual values, and an odd one now and then, so that whole objects are valid often enough."""
    return st.sampled_from(range(16)).flatmap(lambda draw: odd if draw == 15 else usual)


def texts(field: str = "") -> st.SearchStrategy[str]:
    """A text for a field of that (Istio's) name: of its pool most of the time, else any."""
    pool = _BY_FIELD.get(field)
    if pool is None and field.lower().endswith(("labels", "selector")):
        pool = _LABELS
    if pool is None and field in ("headers", "withoutHeaders", "set", "add", "remove"):
        pool = [*_HEADERS, *_VALUES]
    if pool is None:
        pool = [*NAMES, *_LABELS[:2], *_VALUES[:4]]
    return mostly(st.sampled_from(pool), _ANY_TEXT)


_ANY_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*HOSTS, *_REGEXES, *_VALUES, *_PATHS, "x" * 300, "\u202e", "a\nb", "\U0001f600"]),
)


def durations() -> st.SearchStrategy[str]:
    """Durations as texts; some are too short, too long or none."""
    good = st.sampled_from(["1s", "0.5s", "200ms", "1h30m", "10s", "5m"])
    bad = st.sampled_from(["0s", "1us", "-1s", "1", "", "soon", f"{'9' * 400}s", "1s1", "--1s", "99999999h", "1.0005s"])
    return mostly(good, bad)


def integers(field: str = "") -> st.SearchStrategy[int]:
    """Whole numbers; ports come from a small pool."""
    odd = st.sampled_from([-1, 0, 1, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, -(2**63)])
    near = st.sampled_from([80, 81, 443, 8080]) if "port" in field.lower() or field == "number" else st.integers(0, 100)
    return mostly(near, odd)


def numbers() -> st.SearchStrategy[float]:
    """Numbers; some are none."""
    odd = st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 1e-308, 100.0001, -1.0])
    near = st.sampled_from([0.0, 0.1, 1.0, 50.0, 99.9, 100.0])
    return mostly(near, odd)


def json_values() -> st.SearchStrategy[object]:
    """Any plain value, the odd ones of Python included."""
    leaves = st.one_of(
        st.none(), st.booleans(), integers(), numbers(), _ANY_TEXT, durations(), st.just({}), st.just([])
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ANY_TEXT, inner, max_size=3),
        max_leaves=8,
    )
