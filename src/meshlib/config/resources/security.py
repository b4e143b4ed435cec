"""PeerAuthentication, RequestAuthentication and AuthorizationPolicy (``security.istio.io``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, numbered, one_of
from meshlib.config.resources.selectors import PolicyTargetReference, WorkloadSelector
from meshlib.config.resources.support import Approximated

__all__ = [
    "AuthorizationAction",
    "AuthorizationPolicySpec",
    "ClaimToHeader",
    "Condition",
    "JWTHeader",
    "JWTRule",
    "MutualTLS",
    "MutualTLSMode",
    "Operation",
    "PeerAuthenticationSpec",
    "PolicyProvider",
    "RequestAuthenticationSpec",
    "Rule",
    "RuleFrom",
    "RuleTo",
    "Source",
]

_NO_IDENTITY = "automatic mutual TLS stays plaintext: only clusters that an xDS control plane sends have an identity"
_Texts = list[str]
_Filled = Annotated[str, Field(min_length=1)]
_TargetRefs = Annotated[list[PolicyTargetReference], Field(max_length=16)]


class MutualTLSMode(StrEnum):
    """What a server accepts; UNSET takes what is said further out."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class MutualTLS(Message):
    """What a server accepts."""

    mode: Annotated[MutualTLSMode, numbered(*MutualTLSMode)] = MutualTLSMode.UNSET


class PeerAuthenticationSpec(Message):
    """What servers accept; clients read it to decide on automatic mutual TLS.

    Attributes:
        port_level_mtls: Port of the workload (not of the service) -> mode.
    """

    selector: Annotated[
        WorkloadSelector | None,
        Approximated(_NO_IDENTITY),
    ] = None
    mtls: Annotated[
        MutualTLS | None,
        Approximated(_NO_IDENTITY),
    ] = None
    port_level_mtls: Annotated[
        dict[int, MutualTLS],
        Field(min_length=1),
        Approximated(_NO_IDENTITY),
    ] = Field(default_factory=dict)


class JWTHeader(Message):
    """A header that may carry a token, after a prefix such as ``Bearer ``."""

    name: _Filled
    prefix: str = ""


class ClaimToHeader(Message):
    """A claim that is handed to the application in a header."""

    header: Annotated[str, Field(min_length=1, pattern="^[-_A-Za-z0-9]+$")]
    claim: _Filled


class JWTRule(Message):
    """Tokens of one issuer.

    Attributes:
        audiences: Any of them must stand in ``aud``; empty takes every audience.
        jwks_uri: Where the keys are; ``""`` asks the issuer's discovery document.
        jwks: The keys themselves, as JSON.
        from_headers: Where tokens are; with no ``from_...`` at all ``Authorization: Bearer`` and ``?access_token=``.
        timeout: Seconds for fetching keys.
    """

    issuer: _Filled = ""
    audiences: list[_Filled] = Field(default_factory=list)
    jwks_uri: Annotated[str, Field(min_length=1, max_length=2048)] = ""
    jwks: str = ""
    from_headers: list[JWTHeader] = Field(default_factory=list)
    from_params: list[_Filled] = Field(default_factory=list)
    from_cookies: list[_Filled] = Field(default_factory=list)
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: list[ClaimToHeader] = Field(default_factory=list)
    timeout: Duration | None = None
    space_delimited_claims: Annotated[list[_Filled], Field(max_length=64)] = Field(default_factory=list)

    _keys = one_of("jwks_uri", "jwks")


class RequestAuthenticationSpec(Message):
    """Which tokens are believed."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: _TargetRefs = Field(default_factory=list)
    jwt_rules: Annotated[list[JWTRule], Field(max_length=4096)] = Field(default_factory=list)

    _target = one_of("selector", "target_ref", "target_refs")


class Source(Message):
    """Who calls: every field that is given must hold, any value of a field will do; ``not_`` means none of them."""

    principals: _Texts = Field(default_factory=list)
    not_principals: _Texts = Field(default_factory=list)
    request_principals: _Texts = Field(default_factory=list)
    not_request_principals: _Texts = Field(default_factory=list)
    namespaces: _Texts = Field(default_factory=list)
    not_namespaces: _Texts = Field(default_factory=list)
    service_accounts: Annotated[_Texts, Field(max_length=16)] = Field(default_factory=list)
    not_service_accounts: Annotated[_Texts, Field(max_length=16)] = Field(default_factory=list)
    ip_blocks: _Texts = Field(default_factory=list)
    not_ip_blocks: _Texts = Field(default_factory=list)
    remote_ip_blocks: _Texts = Field(default_factory=list)
    not_remote_ip_blocks: _Texts = Field(default_factory=list)
    trust_domains: _Texts = Field(default_factory=list)
    not_trust_domains: _Texts = Field(default_factory=list)


class RuleFrom(Message):
    """One alternative of ``from``."""

    source: Source | None = None


class Operation(Message):
    """What is asked for; fields as in ``Source``. ``ports`` are numbers as texts."""

    hosts: _Texts = Field(default_factory=list)
    not_hosts: _Texts = Field(default_factory=list)
    ports: _Texts = Field(default_factory=list)
    not_ports: _Texts = Field(default_factory=list)
    methods: _Texts = Field(default_factory=list)
    not_methods: _Texts = Field(default_factory=list)
    paths: _Texts = Field(default_factory=list)
    not_paths: _Texts = Field(default_factory=list)


class RuleTo(Message):
    """One alternative of ``to``."""

    operation: Operation | None = None


class Condition(Message):
    """A further attribute, for example ``request.headers[x-user]``."""

    key: str = ""
    values: _Texts = Field(default_factory=list)
    not_values: _Texts = Field(default_factory=list)


class Rule(Message):
    """Some ``from``, some ``to`` and all of ``when`` must hold; what is absent holds."""

    from_: Annotated[list[RuleFrom], Field(max_length=512)] = Field(default_factory=list, alias="from")
    to: list[RuleTo] = Field(default_factory=list)
    when: list[Condition] = Field(default_factory=list)


class AuthorizationAction(StrEnum):
    """What a matching rule does."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class PolicyProvider(Message):
    """The extension provider that CUSTOM asks."""

    name: str = ""


class AuthorizationPolicySpec(Message):
    """Which requests a server takes; without rules it never matches, with one empty rule always."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: _TargetRefs = Field(default_factory=list)
    rules: Annotated[list[Rule], Field(max_length=512)] = Field(default_factory=list)
    action: Annotated[AuthorizationAction, numbered(*AuthorizationAction)] = AuthorizationAction.ALLOW
    provider: PolicyProvider | None = None

    _target = one_of("selector", "target_ref", "target_refs")
