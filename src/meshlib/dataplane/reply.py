"""Answers that the configuration asks for, made here instead of being sent for: redirect, direct response, abort."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from meshlib.dataplane.matchers import compile_regex
from meshlib.dataplane.request import Request
from meshlib.model.grpc_status import grpc_of_http
from meshlib.model.match import MatchKind, StringMatch
from meshlib.model.policy import Abort
from meshlib.model.route import DirectResponse, Redirect, RegexRewrite

__all__ = [
    "LocalReply",
    "PathRewrite",
    "abort_reply",
    "bind_rewrite",
    "bind_substitution",
    "direct_reply",
    "redirect_reply",
]

Pairs = list[tuple[bytes, bytes]]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class LocalReply(NamedTuple):
    """A response made in this process.

    Attributes:
        status: HTTP status.
        headers: Response headers.
        body: Response body.
        flag: Envoy's response flag, ``""`` for none.
        grpc_status: What gRPC callers get, as far as it is not for ``fitted`` to say.
        is_final: Goes out as it is, past all operations on responses.
    """

    status: int
    headers: Pairs
    body: bytes = b""
    flag: str = ""
    grpc_status: int | None = None
    is_final: bool = False


def abort_reply(abort: Abort) -> LocalReply:
    """An injected abort; one with a gRPC status is an HTTP 200 for all other callers. Source: Envoy's fault filter."""
    body = b"fault filter abort"
    status = 200 if abort.grpc_status is not None else abort.http_status or 503
    return LocalReply(status, _text_headers(body), body, "FI", abort.grpc_status)


def direct_reply(action: DirectResponse, flag: str = "") -> LocalReply:
    """A fixed answer."""
    return LocalReply(action.status, _text_headers(action.body), action.body, flag, action.grpc_status)


def redirect_reply(action: Redirect, rewrite: PathRewrite | None, request: Request) -> LocalReply:
    """A 3xx whose ``Location`` is the request's URL with the parts that ``action`` names replaced."""
    location = redirect_location(action, rewrite, request)
    return LocalReply(action.status, [(b"location", location.encode("latin-1", "replace")), (b"content-length", b"0")])


def redirect_location(action: Redirect, rewrite: PathRewrite | None, request: Request) -> str:
    """The full ``Location``; the query is kept unless ``action.path`` has its own. Source: Envoy ``newUri``."""
    scheme = action.scheme or request.scheme
    host = action.authority or _kept_host(action, scheme, request)
    if action.port:
        host = f"{host}:{action.port}"
    path, mark, query = request.path.partition("?")
    if action.path is not None:
        path = action.path
        if "?" in path:
            mark, query = "", ""
    elif rewrite is not None:
        path = rewrite(path)
    if action.strip_query:
        mark, query = "", ""
    return f"{scheme}://{host}{path}{mark}{query}"


def _kept_host(action: Redirect, scheme: str, request: Request) -> str:
    """The request's own host; its port goes when another is named, or with the scheme whose default it was."""
    host, port = _split_port(request.authority)
    changes = scheme != request.scheme and port == str(_DEFAULT_PORTS.get(request.scheme))
    return host if action.port is not None or changes else request.authority


def fitted(reply: LocalReply, request: Request) -> LocalReply:
    """``reply`` as this caller takes it: a gRPC caller gets 200 with a gRPC status, a HEAD request no body.

    Source: Envoy ``sendLocalReply``, ``Grpc::Utility::httpToGrpcStatus``, to which 200 too is UNKNOWN.
    """
    if reply.is_final:
        return reply
    body = reply.body if request.method != "HEAD" else b""
    if not request.is_grpc:
        return reply._replace(body=body, grpc_status=None)
    status = reply.grpc_status if reply.grpc_status is not None else grpc_of_http(reply.status) or _UNKNOWN
    headers = [pair for pair in reply.headers if pair[0] not in (b"content-type", b"content-length")]
    headers += [(b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % status)]
    if body:
        headers.append((b"grpc-message", quote(body, safe=_PLAIN).encode()))
    return LocalReply(200, headers, b"", reply.flag, status)


_UNKNOWN = 2
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What ``grpc-message`` need not escape."""

PathRewrite = Callable[[str], str]


def bind_rewrite(replacement: str | None, regex: RegexRewrite | None, match: StringMatch | None) -> PathRewrite | None:
    """The path after a rewrite: the matched prefix is replaced, or the whole of an exact or regex match.

    Source: Envoy ``prefix_rewrite`` and ``regex_rewrite``; Istio ``HTTPRewrite``. No slash is repaired: prefix
    ``/foo`` rewritten to ``/`` turns ``/foo/bar`` into ``//bar``. An empty regex result leaves the path alone.
    """
    if regex is not None:
        substitute = bind_substitution(regex)
        return lambda path: substitute(path) or path
    if replacement is None:
        return None
    text = replacement
    if match is None:
        return lambda path: text + path[1:]
    if match.kind in (MatchKind.EXACT, MatchKind.REGEX):
        return lambda path: text
    if match.kind is MatchKind.SEGMENT_PREFIX:
        bare, length = text.rstrip("/"), len(match.value.rstrip("/"))
        return lambda path: (bare + path[length:]) or "/"
    length = len(match.value)
    return lambda path: text + path[length:]


def bind_substitution(rewrite: RegexRewrite) -> PathRewrite:
    """Every match replaced. RE2 knows ``\\0`` (the whole match) to ``\\9``, one digit each, and ``\\\\``."""
    substitution = _ESCAPE.sub(
        lambda hit: hit.group() if hit.group(1) == "\\" else f"\\g<{hit.group(1)}>", rewrite.substitution
    )
    replace: Callable[[str, str], str] = compile_regex(rewrite.pattern).sub
    return lambda text: replace(substitution, text)


_ESCAPE = re.compile(r"\\(\\|\d)")


def _split_port(authority: str) -> tuple[str, str]:
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and port.isdigit() else (authority, "")


def _text_headers(body: bytes) -> Pairs:
    if not body:
        return []
    return [(b"content-length", str(len(body)).encode()), (b"content-type", b"text/plain")]
