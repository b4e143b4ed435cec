"""VirtualService: which requests of a host go where (``networking.istio.io``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from meshlib.config.resources.base import Duration, Int32, Message, UInt32, numbered, one_of
from meshlib.config.resources.support import Approximated, Ignored

__all__ = [
    "CorsPolicy",
    "Delegate",
    "Destination",
    "FaultAbort",
    "FaultDelay",
    "HTTPBody",
    "HTTPDirectResponse",
    "HTTPFaultInjection",
    "HTTPMatchRequest",
    "HTTPMirrorPolicy",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HeaderOperations",
    "Headers",
    "Percent",
    "PortSelector",
    "RedirectPortSelection",
    "RouteDestination",
    "StringMatch",
    "TCPRoute",
    "TLSRoute",
    "VirtualServiceSpec",
]


class StringMatch(Message):
    """``exact``, ``prefix`` or ``regex``; none of them asks for presence where that is allowed."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    _match = one_of("exact", "prefix", "regex")


class Percent(Message):
    """0..100; 0.1 means a tenth of a percent."""

    value: float = 0.0


class PortSelector(Message):
    """A port by its number."""

    number: UInt32 = 0


class Destination(Message):
    """A service, one of its subsets, one of its ports."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Message):
    """Changes to headers."""

    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: list[str] = Field(default_factory=list)


class Headers(Message):
    """Changes to the headers of requests and responses."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPRouteDestination(Message):
    """A destination with its share."""

    destination: Destination | None = None
    weight: Int32 = 0
    headers: Headers | None = None


class HTTPMatchRequest(Message):
    """Conditions that must all hold."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch | None] = Field(default_factory=dict)
    port: UInt32 = 0
    source_labels: dict[str, str] = Field(default_factory=dict)
    gateways: list[str] = Field(default_factory=list)
    query_params: dict[str, StringMatch | None] = Field(default_factory=dict)
    ignore_uri_case: bool = False
    without_headers: dict[str, StringMatch | None] = Field(default_factory=dict)
    source_namespace: str = ""
    stat_prefix: Annotated[str, Ignored("no statistics are kept by route prefix")] = ""


class RedirectPortSelection(StrEnum):
    """Which port a redirect names when none is given."""

    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message):
    """Answer 3xx."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: Annotated[RedirectPortSelection, numbered(*RedirectPortSelection)] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0

    _port = one_of("port", "derive_port")


class HTTPBody(Message):
    """A fixed body; ``bytes`` is base64."""

    string: str | None = None
    bytes: str | None = None

    _specifier = one_of("string", "bytes")


class HTTPDirectResponse(Message):
    """Answer with a fixed status and body."""

    status: UInt32 = 0
    body: HTTPBody | None = None


class RegexRewrite(Message):
    """Search and replace in the path."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Message):
    """Change path and authority."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Message):
    """When to try again."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class FaultDelay(Message):
    """Wait before sending."""

    fixed_delay: Duration | None = None
    exponential_delay: Annotated[Duration | None, Ignored("Istio refuses it")] = None
    percentage: Percent | None = None
    percent: Int32 = 0

    _type = one_of("fixed_delay", "exponential_delay")


class FaultAbort(Message):
    """Answer instead of sending."""

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: Annotated[str | None, Ignored("Istio refuses it")] = Field(default=None, alias="http2Error")
    percentage: Percent | None = None

    _type = one_of("http_status", "grpc_status", "http2_error")


class HTTPFaultInjection(Message):
    """Injected faults."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HTTPMirrorPolicy(Message):
    """A copy goes elsewhere."""

    destination: Destination | None = None
    percentage: Percent | None = None


class UnmatchedPreflights(StrEnum):
    """What happens to preflights whose origin matches nothing."""

    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


class CorsPolicy(Message):
    """Cross-origin rules, for callers that pass browsers' requests on."""

    allow_origin: list[str] = Field(default_factory=list)
    allow_origins: list[StringMatch] = Field(default_factory=list)
    allow_methods: list[str] = Field(default_factory=list)
    allow_headers: list[str] = Field(default_factory=list)
    expose_headers: list[str] = Field(default_factory=list)
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Annotated[UnmatchedPreflights, numbered(*UnmatchedPreflights)] = (
        UnmatchedPreflights.UNSPECIFIED
    )


class Delegate(Message):
    """Take the rules from another VirtualService."""

    name: str = ""
    namespace: str = ""


class HTTPRoute(Message):
    """One rule: conditions (OR), then what to do."""

    name: str = ""
    match: list[HTTPMatchRequest] = Field(default_factory=list)
    route: list[HTTPRouteDestination] = Field(default_factory=list)
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: list[HTTPMirrorPolicy] = Field(default_factory=list)
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class RouteDestination(Message):
    """A destination of a TCP or TLS rule."""

    destination: Destination | None = None
    weight: Int32 = 0


class TLSMatchAttributes(Message):
    """Conditions of a TLS rule."""

    sni_hosts: list[str] = Field(default_factory=list)
    destination_subnets: list[str] = Field(default_factory=list)
    port: UInt32 = 0
    source_labels: dict[str, str] = Field(default_factory=dict)
    gateways: list[str] = Field(default_factory=list)
    source_namespace: str = ""


class TLSRoute(Message):
    """A rule for TLS that is passed through."""

    match: list[TLSMatchAttributes] = Field(default_factory=list)
    route: list[RouteDestination] = Field(default_factory=list)


class L4MatchAttributes(Message):
    """Conditions of a TCP rule."""

    destination_subnets: list[str] = Field(default_factory=list)
    port: UInt32 = 0
    source_subnet: Annotated[str, Ignored("Istio ignores it too")] = ""
    source_labels: dict[str, str] = Field(default_factory=dict)
    gateways: list[str] = Field(default_factory=list)
    source_namespace: str = ""


class TCPRoute(Message):
    """A rule for other TCP traffic."""

    match: list[L4MatchAttributes] = Field(default_factory=list)
    route: list[RouteDestination] = Field(default_factory=list)


def _no_nulls(value: Any) -> Any:
    if isinstance(value, list) and None in value:
        raise ValueError("an entry is null")
    return value


_CONNECTIONS = Approximated("for URLs and connections that the mesh opens; sockets of other libraries pass it by")


class VirtualServiceSpec(Message):
    """All rules of some hosts."""

    hosts: list[str] = Field(default_factory=list)
    gateways: list[str] = Field(default_factory=list)
    http: Annotated[list[HTTPRoute], BeforeValidator(_no_nulls)] = Field(default_factory=list)
    tls: Annotated[list[TLSRoute], _CONNECTIONS] = Field(default_factory=list)
    tcp: Annotated[list[TCPRoute], _CONNECTIONS] = Field(default_factory=list)
    export_to: list[str] = Field(default_factory=list)
