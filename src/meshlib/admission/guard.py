"""Whether a workload lets a request in, and by which policy.

Asked in the order of a sidecar's filters: the connection (PeerAuthentication), the tokens (RequestAuthentication), then
CUSTOM, DENY and ALLOW (AuthorizationPolicy). Source: istio.io security concepts; Istio ``core/listener_builder.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from meshlib.admission.tokens import Keys, Refused, Token, believe
from meshlib.config.compile.access_terms import TOKEN
from meshlib.config.compile.attachment import Workload
from meshlib.config.compile.authorization import authorization_filters
from meshlib.config.compile.inbound import Wire, accepts
from meshlib.config.compile.peer_authentication import PeerAuthentications
from meshlib.config.compile.security_policies import SecurityPolicies
from meshlib.config.compile.universe import path_normalization
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.path import normalize_path
from meshlib.dataplane.policies.rbac import BoundRbac, Connection, bind_rbac, decide
from meshlib.dataplane.request import Request

__all__ = ["Admission", "Guard"]


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer.

    Attributes:
        allowed: Whether the application gets to see the request.
        status: 200, 401 or 403; 0 for a connection that is refused before any request.
        policy: ``ns[...]-policy[...]-rule[...]`` that decided, ``""`` when no rule did.
        reason: In words.
        set_headers: What tokens add to the request.
        removed: Headers that are taken out of it.
        path: Path and query as they are handed on.
    """

    allowed: bool
    status: int = 200
    policy: str = ""
    reason: str = ""
    set_headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    path: str = ""


class Guard:
    """What one workload lets in.

    Args:
        resources: Valid objects of any kinds.
        workload: Whose sidecar this stands for.
        mesh: Mesh-wide settings: root namespace, trust domain and aliases, path normalization.
        namespace: For objects that name none.
        keys: Key sets behind URLs; by default none is known.
    """

    def __init__(
        self,
        resources: Sequence[Resource[Any]],
        workload: Workload,
        mesh: MeshConfig | None = None,
        namespace: str = "default",
        keys: Keys = lambda _: "",
    ) -> None:
        self._workload = workload
        mesh = mesh or MeshConfig()
        self._normalization = path_normalization(mesh)
        self._keys = keys
        policies = SecurityPolicies(resources, namespace, mesh.root_namespace)
        applied = policies.authorization(workload)
        domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
        self._http = bind_rbac(authorization_filters(applied, domains))
        self._tcp = bind_rbac(authorization_filters(applied, domains, tcp=True))
        authentications = policies.request_authentications(workload)
        self._rules = tuple(rule for each in authentications for rule in each.spec.jwt_rules)
        self._peers = PeerAuthentications(resources, namespace, mesh.root_namespace)

    def admit(self, request: Request, connection: Connection, now: float) -> Admission:
        """Whether an HTTP or gRPC request gets in.

        Args:
            request: As it came in; its path is normalized in place, as the mesh asks for.
            connection: Who asks, and which port of the workload.
            now: Unix time, for tokens.

        Raises:
            ImportError: A token has to be checked, and PyJWT is not installed.
        """
        if not self._accepts(connection):
            return _NOT_ACCEPTED
        request.path = normalize_path(request.path, self._normalization)
        if _is_preflight(request):
            tokens: list[Token] = []
        else:
            try:
                tokens = believe(self._rules, request, now, self._keys)
            except Refused as error:
                return Admission(False, error.status, reason=str(error))
        known = replace(connection, metadata={**connection.metadata, **_metadata(tokens)})
        return _answer(self._http, request, known, tokens)

    def admit_connection(self, connection: Connection) -> Admission:
        """Whether a connection that is not HTTP gets in."""
        if not self._accepts(connection):
            return _NOT_ACCEPTED
        return _answer(self._tcp, Request("", "", "", 0, ""), connection, [])

    def _accepts(self, connection: Connection) -> bool:
        mode = self._peers.of_workload(self._workload.namespace, self._workload.labels, connection.destination_port)
        wire = Wire.PLAINTEXT if not connection.tls else Wire.MUTUAL if connection.certificate else Wire.TLS
        return accepts(mode, wire, protocol=None, is_http=True)


_NOT_ACCEPTED = Admission(False, 0, reason="PeerAuthentication does not take such a connection")


def _answer(filters: Sequence[BoundRbac], request: Request, known: Connection, tokens: Sequence[Token]) -> Admission:
    verdict = decide(filters, request, known)
    if not verdict.allowed:
        why = f"{verdict.policy} refuses it" if verdict.policy else "no ALLOW policy covers it"
        return Admission(False, 403, verdict.policy, why)
    headers = tuple(pair for token in tokens for pair in token.set_headers)
    removed = tuple(name for token in tokens for name in token.removed)
    params = {name for token in tokens for name in token.removed_params}
    return Admission(True, 200, verdict.policy, "", headers, removed, _without(request.path, params))


def _metadata(tokens: Sequence[Token]) -> dict[str, Any]:
    return {TOKEN: {"payload": tokens[0].claims}} if tokens else {}


def _without(path: str, params: set[str]) -> str:
    if not params:
        return path
    bare, _, query = path.partition("?")
    kept = "&".join(item for item in query.split("&") if item.partition("=")[0] not in params)
    return f"{bare}?{kept}" if kept else bare


def _is_preflight(request: Request) -> bool:
    asks = request.header("access-control-request-method") is not None and request.header("origin") is not None
    return request.method == "OPTIONS" and asks
