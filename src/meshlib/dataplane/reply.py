"""Answers that the configuration asks for, made here instead of being sent for: redirect, direct response, abort."""

from __future__ import annotations

from typing import NamedTuple

from meshlib.dataplane.matchers import compile_regex
from meshlib.dataplane.request import Request
from meshlib.model.policy import Abort
from meshlib.model.route import DirectResponse, MatchKind, Redirect, RegexRewrite, Route

__all__ = ["LocalReply", "abort_reply", "direct_reply", "path_after", "redirect_reply"]

Pairs = list[tuple[bytes, bytes]]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class LocalReply(NamedTuple):
    """A response made in this process.

    Attributes:
        status: HTTP status.
        headers: Response headers.
        body: Response body.
        flag: Envoy's response flag, ``""`` for none.
        grpc_status: Set for gRPC callers; the HTTP status is 200 then.
    """

    status: int
    headers: Pairs
    body: bytes = b""
    flag: str = ""
    grpc_status: int | None = None


def abort_reply(abort: Abort, request: Request) -> LocalReply:
    """An injected abort. A gRPC status is answered as HTTP 200 with ``grpc-status``, as Envoy's fault filter does."""
    body = b"fault filter abort"
    if abort.grpc_status is not None:
        return _grpc_reply(abort.grpc_status, body, "FI")
    return LocalReply(abort.http_status or 503, _text_headers(body), body, "FI")


def direct_reply(action: DirectResponse, request: Request, flag: str = "") -> LocalReply:
    """A fixed answer, in gRPC's form for gRPC callers where one is given."""
    if action.grpc_status is not None and request.is_grpc:
        return _grpc_reply(action.grpc_status, action.body, flag)
    return LocalReply(action.status, _text_headers(action.body), action.body, flag)


def _grpc_reply(status: int, message: bytes, flag: str) -> LocalReply:
    headers = [(b"content-type", b"application/grpc"), (b"grpc-status", str(status).encode())]
    return LocalReply(200, [*headers, (b"grpc-message", message)] if message else headers, b"", flag, status)


def redirect_reply(action: Redirect, route: Route, request: Request) -> LocalReply:
    """A 3xx whose ``Location`` is the request's URL with the parts that ``action`` names replaced."""
    location = redirect_location(action, route, request)
    return LocalReply(action.status, [(b"location", location.encode("latin-1", "replace")), (b"content-length", b"0")])


def redirect_location(action: Redirect, route: Route, request: Request) -> str:
    """The full ``Location``. Source: Envoy ``newUri``; default ports vanish, the query is kept unless replaced."""
    scheme = action.scheme or request.scheme
    host, port = _split_port(action.authority or request.authority)
    if action.port is not None:
        port = str(action.port) if action.port else ""
    elif action.authority is None and action.scheme is not None and port == str(_DEFAULT_PORTS.get(request.scheme)):
        port = ""
    if port and int(port) == _DEFAULT_PORTS.get(scheme):
        port = ""
    path, mark, query = request.path.partition("?")
    if action.path is not None:
        path = action.path
        if "?" in path:
            mark, query = "", ""
    elif action.prefix_rewrite is not None:
        path = path_after(action.prefix_rewrite, None, route, path)
    elif action.regex_rewrite is not None:
        path = path_after(None, action.regex_rewrite, route, path)
    if action.strip_query:
        mark, query = "", ""
    return f"{scheme}://{host}{':' + port if port else ''}{path}{mark}{query}"


def path_after(replacement: str | None, regex: RegexRewrite | None, route: Route, path: str) -> str:
    """The path after a rewrite: the matched prefix is replaced, or the whole of an exact or regex match.

    Source: Envoy ``prefix_rewrite`` and ``regex_rewrite``; Istio ``HTTPRewrite``. No slash is repaired: prefix
    ``/foo`` rewritten to ``/`` turns ``/foo/bar`` into ``//bar``. An empty regex result leaves the path alone.
    """
    if regex is not None:
        return compile_regex(regex.pattern).sub(regex.substitution, path) or path
    if replacement is None:
        return path
    match = route.match.path
    if match is None:
        return replacement + path[1:]
    if match.kind in (MatchKind.EXACT, MatchKind.REGEX):
        return replacement
    matched = match.value.rstrip("/") if match.kind is MatchKind.SEGMENT_PREFIX else match.value
    rest = path[len(matched) :]
    if match.kind is MatchKind.SEGMENT_PREFIX:
        return (replacement.rstrip("/") + rest) or "/"
    return replacement + rest


def _split_port(authority: str) -> tuple[str, str]:
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and port.isdigit() else (authority, "")


def _text_headers(body: bytes) -> Pairs:
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"text/plain"))
    return headers
