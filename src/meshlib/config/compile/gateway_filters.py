"""Filters of Gateway API rules, in the words that VirtualServices are compiled from, and path rewrites in the model's.

Source: Istio ``conversion.go`` (``createHeadersFilter``, ``createRedirectFilter``, ``createRewriteFilter``,
``createCorsFilter``): preflights of other origins are answered here. The port of a redirect is Gateway API's rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from meshlib.config.compile.cors import cors_of
from meshlib.config.resources import virtual_service as api
from meshlib.config.resources.gateway_filters import (
    FilterType,
    HTTPCORSFilter,
    HTTPHeader,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestMirrorFilter,
    HTTPRequestRedirectFilter,
    HTTPURLRewriteFilter,
    RouteFilter,
)
from meshlib.model.route import Cors, Redirect, RegexRewrite

__all__ = ["Filters", "mirror_percent", "path_rewrite", "read_filters", "redirect"]

_ANY_ORIGIN = r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+"
_WHOLE_PATH = "/.*"
_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class Filters:
    """What the filters of one rule, or of one backend, ask for.

    Attributes:
        headers: Changes to headers; a new Host among them.
        redirect: Answer 3xx.
        rewrite: Change path and authority.
        mirrors: Where copies go.
        cors: Cross-origin rules.
        unsupported: Types that cannot be honoured; they must not be skipped, so nothing is sent.
    """

    headers: api.Headers = api.Headers()
    redirect: HTTPRequestRedirectFilter | None = None
    rewrite: HTTPURLRewriteFilter | None = None
    mirrors: list[HTTPRequestMirrorFilter] = field(default_factory=list)
    cors: Cors | None = None
    unsupported: list[str] = field(default_factory=list)


def read_filters(filters: Iterable[RouteFilter], supported: Set[FilterType]) -> Filters:
    """The filters by type."""
    found = Filters()
    requests = responses = None
    for each in filters:
        if each.type not in supported:
            found.unsupported.append(each.type)
        elif each.type == FilterType.REQUEST_HEADER_MODIFIER:
            requests = _operations(each.request_header_modifier)
        elif each.type == FilterType.RESPONSE_HEADER_MODIFIER:
            responses = _operations(each.response_header_modifier)
        elif each.type == FilterType.REQUEST_REDIRECT:
            found.redirect = each.request_redirect
        elif each.type == FilterType.URL_REWRITE:
            found.rewrite = each.url_rewrite
        elif each.type == FilterType.REQUEST_MIRROR and each.request_mirror is not None:
            found.mirrors.append(each.request_mirror)
        elif each.type == FilterType.CORS:
            found.cors = _cors(each.cors)
    found.headers = api.Headers(request=requests, response=responses)
    return found


def _operations(given: HTTPHeaderFilter | None) -> api.HeaderOperations | None:
    if given is None:
        return None
    return api.HeaderOperations(set=_first(given.set), add=_first(given.add), remove=given.remove)


def _first(headers: Sequence[HTTPHeader]) -> dict[str, str]:
    """Of equal names the first counts."""
    by_name = {header.name.lower(): header for header in reversed(headers)}
    return {header.name: header.value for header in reversed(by_name.values())}


def _cors(given: HTTPCORSFilter | None) -> Cors | None:
    if given is None:
        return None
    policy = api.CorsPolicy(
        allow_origins=[_origin(origin) for origin in given.allow_origins],
        allow_methods=given.allow_methods,
        allow_headers=given.allow_headers,
        expose_headers=given.expose_headers,
        max_age=f"{given.max_age}s",  # pyright: ignore[reportArgumentType] - read as it stands in YAML
        allow_credentials=given.allow_credentials,
        unmatched_preflights=api.UnmatchedPreflights.IGNORE,
    )
    return cors_of(policy)


def _origin(origin: str) -> api.StringMatch:
    """``*`` alone is every origin; in a host it stands for any number of labels to its left."""
    if origin == "*":
        return api.StringMatch(regex=_ANY_ORIGIN)
    if "*" in origin:
        return api.StringMatch(regex=".*".join(re.escape(part) for part in origin.split("*")))
    return api.StringMatch(exact=origin)


def mirror_percent(given: HTTPRequestMirrorFilter) -> api.Percent:
    """The share of requests that is copied; all of them by default."""
    if given.fraction is not None:
        return api.Percent(value=100 * given.fraction.numerator / given.fraction.denominator)
    return api.Percent(value=100.0 if given.percent is None else float(given.percent))


def path_rewrite(given: HTTPPathModifier | None, *, root: bool) -> tuple[str | None, RegexRewrite | None]:
    """A new path, as text for the matched prefix or as a pattern; ``root`` says that the prefix was ``/``."""
    if given is None:
        return None, None
    if given.replace_full_path is not None:
        return None, RegexRewrite(_WHOLE_PATH, _literal(given.replace_full_path))
    prefix = (given.replace_prefix_match or "").removesuffix("/")
    if root:
        return None, RegexRewrite("^/", _literal(f"{prefix}/"))
    return prefix or "/", None


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def redirect(given: HTTPRequestRedirectFilter, port: int, *, root: bool) -> Redirect:
    """A redirect for requests on ``port``; a scheme brings its own port, and default ports are not written."""
    chosen = given.port or (_PORTS[given.scheme] if given.scheme is not None else port)
    made = Redirect(
        given.status_code,
        authority=given.hostname,
        port=0 if chosen == _PORTS[given.scheme or "http"] else chosen,
        scheme=given.scheme,
    )
    if given.path is not None and given.path.replace_full_path is not None:
        return replace(made, path=given.path.replace_full_path or None)
    prefix, regex = path_rewrite(given.path, root=root)
    return replace(made, prefix_rewrite=prefix, regex_rewrite=regex)
