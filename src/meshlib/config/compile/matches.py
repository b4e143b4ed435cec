"""Conditions of an HTTP rule: those that a client and port decide now, and those left for each request.

Source: Istio ``route.go`` (``TranslateRouteMatch``, ``sourceMatchHTTP``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshlib.config.compile.endpoints import selects
from meshlib.config.resources.virtual_service import (
    HTTPMatchRequest,
    L4MatchAttributes,
    StringMatch,
    TLSMatchAttributes,
)
from meshlib.model import route as model
from meshlib.model.route import MatchKind
from meshlib.model.snapshot import Client

__all__ = ["in_mesh", "inapplicable", "inapplicable_connection", "is_catch_all", "text_match", "translate"]


def in_mesh(gateways: Sequence[str]) -> bool:
    """Whether rules with these gateways apply to clients in the mesh; none named means ``mesh``."""
    return not gateways or "mesh" in gateways


def inapplicable(match: HTTPMatchRequest, client: Client, port: int) -> str | None:
    """Why ``match`` can never hold for this client and port; None when it can."""
    if match.port and match.port != port:
        return f"port {match.port} is not {port}"
    if match.gateways:
        return None if in_mesh(match.gateways) else "gateways do not include mesh"
    if not selects(match.source_labels, client.labels):
        return f"sourceLabels {_shown(match.source_labels)} are not the client's {_shown(client.labels)}"
    if match.source_namespace and match.source_namespace != client.namespace:
        return f"sourceNamespace {match.source_namespace!r} is not {client.namespace!r}"
    return None


def inapplicable_connection(match: TLSMatchAttributes | L4MatchAttributes, client: Client, port: int) -> str | None:
    """As ``inapplicable``, for ``tls`` and ``tcp`` rules: gateways, labels and namespace must all hold.

    Source: Istio ``core/tls.go`` (``matchTLS``, ``matchTCP``).
    """
    if match.port and match.port != port:
        return f"port {match.port} is not {port}"
    if not in_mesh(match.gateways):
        return "gateways do not include mesh"
    if not selects(match.source_labels, client.labels):
        return f"sourceLabels {_shown(match.source_labels)} are not the client's {_shown(client.labels)}"
    if match.source_namespace and match.source_namespace != client.namespace:
        return f"sourceNamespace {match.source_namespace!r} is not {client.namespace!r}"
    return None


def _shown(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "(none)"


def is_catch_all(match: HTTPMatchRequest) -> bool:
    """Whether every request matches, so that what follows can never be reached."""
    if any((match.method, match.scheme, match.authority, match.headers, match.without_headers, match.query_params)):
        return False
    uri = match.uri
    return uri is None or uri == StringMatch() or uri.prefix in ("/", "") or uri.regex == ".*"


def translate(match: HTTPMatchRequest, *, segments: bool = False) -> model.RouteMatch:
    """The conditions in the model's form; with ``segments`` a prefix ends where a segment of the path does."""
    headers = [
        model.HeaderMatch(f":{name}", text)
        for name in ("method", "scheme", "authority")
        if (text := text_match(getattr(match, name))) is not None
    ]
    headers.extend(_header(name, value) for name, value in match.headers.items())
    headers.extend(_without(name, value) for name, value in match.without_headers.items())
    query = [model.QueryMatch(name, text_match(value)) for name, value in match.query_params.items()]
    path = _path(match)
    if segments and path is not None and path.kind is MatchKind.PREFIX:
        path = model.StringMatch(MatchKind.SEGMENT_PREFIX, path.value.rstrip("/"), path.ignore_case)
    return model.RouteMatch(path, tuple(headers), tuple(query))


def _path(match: HTTPMatchRequest) -> model.StringMatch | None:
    text = text_match(match.uri)
    if text is None or (text.kind is MatchKind.PREFIX and text.value in ("", "/")):
        return None
    if match.ignore_uri_case and text.kind is not MatchKind.REGEX:
        return model.StringMatch(text.kind, text.value, ignore_case=True)
    return text


def text_match(value: StringMatch | None) -> model.StringMatch | None:
    """A text condition in the model's form; None for presence.

    The regex ``*``, which is none, asks for presence too (Istio ``isCatchAllStringMatch``).
    """
    if value is None or value.regex == "*":
        return None
    if value.exact is not None:
        return model.StringMatch(MatchKind.EXACT, value.exact)
    if value.prefix is not None:
        return model.StringMatch(MatchKind.PREFIX, value.prefix)
    if value.regex is not None:
        return model.StringMatch(MatchKind.REGEX, value.regex)
    return None


def _header(name: str, value: StringMatch | None) -> model.HeaderMatch:
    return model.HeaderMatch(name.lower(), text_match(value))


def _without(name: str, value: StringMatch | None) -> model.HeaderMatch:
    """The header must be missing, or differ; a missing one is compared as an empty text."""
    text = text_match(value)
    if text is None:
        return model.HeaderMatch(name.lower(), None, invert=True)
    return model.HeaderMatch(name.lower(), text, invert=True, missing_as_empty=True)
