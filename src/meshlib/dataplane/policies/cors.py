"""Cross-origin requests: preflights are answered here, answers say who may read them.

Source: Envoy's CORS filter: without an ``Origin`` nothing happens; ``*`` repeats what the preflight asked for; an
answer names the caller's own origin. Istio ``unmatchedPreflights``.
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

    __slots__ = ("_fixed", "_origins", "_shown", "policy")

    def __init__(self, policy: Cors) -> None:
        self.policy = policy
        self._origins = tuple(bind_text(origin) for origin in policy.allow_origins)
        shown = [(_CREDENTIALS, "true" if policy.allow_credentials else ""), (_EXPOSE, policy.expose_headers)]
        self._shown: Pairs = [(name, value.encode("latin-1", "replace")) for name, value in shown if value]
        age = [] if policy.max_age is None else [(b"access-control-max-age", str(policy.max_age).encode())]
        self._fixed: Pairs = [*self._shown, *age, (b"content-length", b"0")]

    def preflight(self, request: Request) -> LocalReply | None:
        """The answer to a preflight; None for any other request, and for a preflight that is to be sent on."""
        asked = request.header("access-control-request-method")
        if request.method != "OPTIONS" or not asked:
            return None
        origin = self._allowed(request)
        if origin is None:
            ignored = request.header("origin") and not self.policy.forward_unmatched
            return LocalReply(200, [(b"content-length", b"0")]) if ignored else None
        wanted = request.header("access-control-request-headers") or ""
        lists = (
            (b"access-control-allow-methods", self.policy.allow_methods, asked),
            (b"access-control-allow-headers", self.policy.allow_headers, wanted),
        )
        granted = [(name, asked_for if value == "*" else value) for name, value, asked_for in lists]
        headers = [(name, value.encode("latin-1", "replace")) for name, value in granted if value]
        return LocalReply(200, [(_ORIGIN, origin), *headers, *self._fixed])

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
