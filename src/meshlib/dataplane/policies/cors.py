"""Cross-origin requests: preflights are answered here, answers say who may read them.

Source: Envoy's CORS filter: without an ``Origin`` nothing happens; ``*`` repeats what the preflight asked for; an
answer names the caller's own origin. An ignored preflight (Istio ``unmatchedPreflights``) gets the same answer without
origin and exposed headers. Answers made here, but for preflights, say nothing of it; neither do routes that answer by
themselves.
"""

from __future__ import annotations

from meshlib.dataplane.matchers import bind_text
from meshlib.dataplane.reply import LocalReply
from meshlib.dataplane.request import Request
from meshlib.model.route import Cors

__all__ = ["BoundCors"]

Pairs = list[tuple[bytes, bytes]]

_ORIGIN, _CREDENTIALS = b"access-control-allow-origin", b"access-control-allow-credentials"
_EXPOSE = b"access-control-expose-headers"


class BoundCors:
    """The rules of one route, ready for requests."""

    __slots__ = ("_origins", "_shown", "policy")

    def __init__(self, policy: Cors) -> None:
        self.policy = policy
        self._origins = tuple(bind_text(origin) for origin in policy.allow_origins)
        shown = [(_CREDENTIALS, "true" if policy.allow_credentials else ""), (_EXPOSE, policy.expose_headers)]
        self._shown: Pairs = [(name, value.encode("latin-1", "replace")) for name, value in shown if value]

    def preflight(self, request: Request) -> LocalReply | None:
        """The answer to a preflight; None for any other request, and for a preflight that is to be sent on."""
        asked = request.header("access-control-request-method")
        if request.method != "OPTIONS" or not asked or not request.header("origin"):
            return None
        origin = self._allowed(request)
        if origin is None and self.policy.forward_unmatched:
            return None
        wanted = request.header("access-control-request-headers") or ""
        policy = self.policy
        granted: Pairs = [] if origin is None else [(_ORIGIN, origin)]
        granted += [pair for pair in self._shown if origin is not None or pair[0] is _CREDENTIALS]
        granted += self._repeated(b"access-control-allow-methods", policy.allow_methods, asked)
        granted += self._repeated(b"access-control-allow-headers", policy.allow_headers, wanted)
        if policy.max_age is not None:
            granted.append((b"access-control-max-age", b"%d" % policy.max_age))
        return LocalReply(200, [*granted, (b"content-length", b"0")], is_final=True)

    @staticmethod
    def _repeated(name: bytes, value: str, asked: str) -> Pairs:
        """``*`` repeats what was asked for, were it nothing."""
        if not value:
            return []
        return [(name, (asked if value == "*" else value).encode("latin-1", "replace"))]

    def shared(self, request: Request, headers: Pairs) -> Pairs:
        """The headers of an answer, with word of who may read it where the caller's origin may."""
        origin = self._allowed(request)
        if origin is None:
            return headers
        said: Pairs = [(_ORIGIN, origin), *self._shown]
        names = {name for name, _ in said}
        return [*(pair for pair in headers if pair[0].lower() not in names), *said]

    def _allowed(self, request: Request) -> bytes | None:
        origin = request.header("origin")
        if not origin or not any(matches(origin) for matches in self._origins):
            return None
        return origin.encode("latin-1", "replace")
