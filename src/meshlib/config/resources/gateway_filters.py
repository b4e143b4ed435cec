"""Filters of Gateway API routes: what happens to a request besides being sent on (``gateway.networking.k8s.io``)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from meshlib.config.resources.base import Message, duration
from meshlib.config.resources.support import Ignored

__all__ = [
    "AT_BACKENDS",
    "AT_GRPC_RULES",
    "AT_HTTP_RULES",
    "BackendObjectReference",
    "FilterType",
    "Fraction",
    "GatewayDuration",
    "HTTPCORSFilter",
    "HTTPExternalAuthFilter",
    "HTTPHeader",
    "HTTPHeaderFilter",
    "HTTPPathModifier",
    "HTTPRequestMirrorFilter",
    "HTTPRequestRedirectFilter",
    "HTTPURLRewriteFilter",
    "LocalObjectReference",
    "PathModifierType",
    "RouteFilter",
]

_REFUSED = Ignored("a filter that cannot be honoured must not be skipped: the rule answers 500")
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")


def _duration(value: object) -> float:
    """Seconds of Gateway API's narrower form of durations: whole numbers, at most four parts (GEP-2257)."""
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration such as '10s', '500ms' or '1h30m'")
    return duration(value)


GatewayDuration = Annotated[float, BeforeValidator(_duration)]


class FilterType(StrEnum):
    """Kinds of filters that this library knows; routes may name others, which make a rule invalid."""

    REQUEST_HEADER_MODIFIER = "RequestHeaderModifier"
    RESPONSE_HEADER_MODIFIER = "ResponseHeaderModifier"
    REQUEST_REDIRECT = "RequestRedirect"
    REQUEST_MIRROR = "RequestMirror"
    URL_REWRITE = "URLRewrite"
    CORS = "CORS"
    EXTERNAL_AUTH = "ExternalAuth"
    EXTENSION_REF = "ExtensionRef"

    @property
    def field(self) -> str:
        """The field beside ``type`` that holds this filter's settings."""
        return _FIELDS.get(self.value, self.value[0].lower() + self.value[1:])


_FIELDS = {"CORS": "cors", "URLRewrite": "urlRewrite"}

AT_HTTP_RULES = frozenset(FilterType) - {FilterType.EXTERNAL_AUTH, FilterType.EXTENSION_REF}
AT_GRPC_RULES = frozenset(
    {FilterType.REQUEST_HEADER_MODIFIER, FilterType.RESPONSE_HEADER_MODIFIER, FilterType.REQUEST_MIRROR}
)
AT_BACKENDS = frozenset(
    {FilterType.REQUEST_HEADER_MODIFIER, FilterType.RESPONSE_HEADER_MODIFIER, FilterType.URL_REWRITE}
)
"""What is honoured where; a rule or backend with any other filter answers 500, for filters must not be skipped."""


class LocalObjectReference(Message):
    """An object of the route's namespace."""

    group: str
    kind: str
    name: str


class BackendObjectReference(Message):
    """Where requests go: a Service unless ``group`` and ``kind`` say otherwise."""

    group: str = ""
    kind: str = "Service"
    name: str
    namespace: str | None = None
    port: int | None = None


class HTTPHeader(Message):
    """A header to set or add."""

    name: str
    value: str


class HTTPHeaderFilter(Message):
    """Changes to headers."""

    set: list[HTTPHeader] = Field(default_factory=list)
    add: list[HTTPHeader] = Field(default_factory=list)
    remove: list[str] = Field(default_factory=list)


class PathModifierType(StrEnum):
    """What of the path is replaced."""

    REPLACE_FULL_PATH = "ReplaceFullPath"
    REPLACE_PREFIX_MATCH = "ReplacePrefixMatch"


class HTTPPathModifier(Message):
    """A new path, or a new beginning of it."""

    type: Annotated[PathModifierType, Ignored("the field that is set tells it")]
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class HTTPRequestRedirectFilter(Message):
    """Answer 3xx."""

    scheme: Literal["http", "https"] | None = None
    hostname: str | None = None
    path: HTTPPathModifier | None = None
    port: int | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Message):
    """Change path and authority."""

    hostname: str | None = None
    path: HTTPPathModifier | None = None


class Fraction(Message):
    """``numerator`` of ``denominator``."""

    numerator: int
    denominator: int = 100


class HTTPRequestMirrorFilter(Message):
    """A copy goes elsewhere; all requests are copied unless ``percent`` or ``fraction`` says otherwise."""

    backend_ref: BackendObjectReference
    percent: int | None = None
    fraction: Fraction | None = None


class HTTPCORSFilter(Message):
    """Cross-origin rules; ``maxAge`` in seconds."""

    allow_origins: list[str] = Field(default_factory=list)
    allow_credentials: bool | None = None
    allow_methods: list[str] = Field(default_factory=list)
    allow_headers: list[str] = Field(default_factory=list)
    expose_headers: list[str] = Field(default_factory=list)
    max_age: int = 5


class HTTPExternalAuthFilter(Message):
    """Ask another server first; read so that it can be refused by name."""

    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: dict[str, Any] | None = None
    http: dict[str, Any] | None = None
    forward_body: dict[str, Any] | None = None


class RouteFilter(Message):
    """One filter; ``type`` says which of the fields is meant."""

    type: str
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: Annotated[HTTPExternalAuthFilter | None, _REFUSED] = None
    extension_ref: Annotated[LocalObjectReference | None, _REFUSED] = None
