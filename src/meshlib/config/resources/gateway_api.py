"""Gateway API: HTTPRoute, GRPCRoute and ReferenceGrant (``gateway.networking.k8s.io``).

Fields that the API server fills in for their absence have the same defaults here, so that an object from a file means
what it means in a cluster. One default differs: a rule without ``matches`` stays one, see ``compile.gateway_matches``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from meshlib.config.resources.base import Message
from meshlib.config.resources.gateway_filters import BackendObjectReference, GatewayDuration, RouteFilter
from meshlib.config.resources.support import Ignored, ServerSide

__all__ = [
    "GROUP",
    "BackendRef",
    "CookieConfig",
    "GRPCMethodMatch",
    "GRPCRouteMatch",
    "GRPCRouteRule",
    "GRPCRouteSpec",
    "HTTPPathMatch",
    "HTTPRouteMatch",
    "HTTPRouteRetry",
    "HTTPRouteRule",
    "HTTPRouteSpec",
    "HTTPRouteTimeouts",
    "MatchType",
    "ParentReference",
    "PathMatchType",
    "ReferenceGrantFrom",
    "ReferenceGrantSpec",
    "ReferenceGrantTo",
    "SessionPersistence",
    "ValueMatch",
]

GROUP = "gateway.networking.k8s.io"

_NO_SESSIONS = Ignored("Istio ignores it too; sticky cookies are a DestinationRule's consistentHash")
_GATEWAYS = ServerSide("gateways choose by it; in the mesh the parent's own name counts")

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class ParentReference(Message):
    """What a route is attached to: a Gateway unless ``group`` and ``kind`` say otherwise.

    A Service (group ``""``) and a ServiceEntry (group ``networking.istio.io``) concern clients in the mesh.
    """

    group: str = GROUP
    kind: str = "Gateway"
    namespace: str | None = None
    name: str
    section_name: str | None = None
    port: int | None = None


class PathMatchType(StrEnum):
    """How a path is compared; ``PathPrefix`` goes by whole segments."""

    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


class MatchType(StrEnum):
    """How the value of a header, query parameter or gRPC method is compared."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class HTTPPathMatch(Message):
    """A condition on the path without its query."""

    type: PathMatchType = PathMatchType.PATH_PREFIX
    value: str = "/"


class ValueMatch(Message):
    """A condition on a header or query parameter."""

    type: MatchType = MatchType.EXACT
    name: str
    value: str


class HTTPRouteMatch(Message):
    """Conditions that must all hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: list[ValueMatch] = Field(default_factory=list)
    query_params: list[ValueMatch] = Field(default_factory=list)
    method: Method | None = None


class BackendRef(BackendObjectReference):
    """A backend with its share of the requests, and filters for that share alone."""

    weight: int = 1
    filters: list[RouteFilter] = Field(default_factory=list)


class HTTPRouteTimeouts(Message):
    """Limits on the whole call and on each try; 0 is none."""

    request: GatewayDuration | None = None
    backend_request: GatewayDuration | None = None


class HTTPRouteRetry(Message):
    """When to try again."""

    codes: list[int] = Field(default_factory=list)
    attempts: int | None = None
    backoff: GatewayDuration | None = None


class CookieConfig(Message):
    """How long a session cookie lives."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Message):
    """Keep a session at one endpoint."""

    session_name: str | None = None
    absolute_timeout: GatewayDuration | None = None
    idle_timeout: GatewayDuration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None


class HTTPRouteRule(Message):
    """One rule: conditions (OR), what to do besides sending, and where to send."""

    name: str | None = None
    matches: list[HTTPRouteMatch] = Field(default_factory=list)
    filters: list[RouteFilter] = Field(default_factory=list)
    backend_refs: list[BackendRef] = Field(default_factory=list)
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: Annotated[SessionPersistence | None, _NO_SESSIONS] = None


class HTTPRouteSpec(Message):
    """Rules for requests of some parents."""

    parent_refs: list[ParentReference] = Field(default_factory=list)
    use_default_gateways: Annotated[Literal["All", "None"] | None, _GATEWAYS] = None
    hostnames: Annotated[list[str], _GATEWAYS] = Field(default_factory=list)
    rules: list[HTTPRouteRule] = Field(default_factory=lambda: [HTTPRouteRule()])


class GRPCMethodMatch(Message):
    """A condition on the service, the method, or both."""

    type: MatchType = MatchType.EXACT
    service: str | None = None
    method: str | None = None


class GRPCRouteMatch(Message):
    """Conditions that must all hold."""

    method: GRPCMethodMatch | None = None
    headers: list[ValueMatch] = Field(default_factory=list)


class GRPCRouteRule(Message):
    """One rule of gRPC requests."""

    name: str | None = None
    matches: list[GRPCRouteMatch] = Field(default_factory=list)
    filters: list[RouteFilter] = Field(default_factory=list)
    backend_refs: list[BackendRef] = Field(default_factory=list)
    session_persistence: Annotated[SessionPersistence | None, _NO_SESSIONS] = None


class GRPCRouteSpec(Message):
    """Rules for gRPC requests of some parents."""

    parent_refs: list[ParentReference] = Field(default_factory=list)
    use_default_gateways: Annotated[Literal["All", "None"] | None, _GATEWAYS] = None
    hostnames: Annotated[list[str], _GATEWAYS] = Field(default_factory=list)
    rules: list[GRPCRouteRule] = Field(default_factory=list)


class ReferenceGrantFrom(Message):
    """Who may refer."""

    group: str
    kind: str
    namespace: str


class ReferenceGrantTo(Message):
    """To what, in the grant's namespace; without a name to every object of that kind."""

    group: str
    kind: str
    name: str | None = None


class ReferenceGrantSpec(Message):
    """References across namespaces that are allowed; Istio asks for them at gateways, not in the mesh."""

    # "from" is a word of Python's
    from_: list[ReferenceGrantFrom] = Field(default_factory=list, alias="from")
    to: list[ReferenceGrantTo] = Field(default_factory=list)
