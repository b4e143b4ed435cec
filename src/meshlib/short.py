"""The short way through a client: a plain call skips what it does not use, and still returns the library's responses.

An httpx client spends more on a request than the mesh and the wire together: it parses the URL, builds header maps,
runs an authentication flow, a redirect loop, hooks and a cookie jar, and builds response objects of the same kind. A
call that uses none of it goes from its arguments straight to the core; the response is a real one of the library whose
parts are made when somebody asks. Everything else, from ``params`` to mounts, takes the library's own full way.

What is needed of the library beyond its public names is held by a test (``tests/httpx/test_short.py``), and where it is
missing the full way is taken always.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from json import dumps
from time import perf_counter
from typing import Any, NamedTuple

from meshlib.clock import wall
from meshlib.dataplane.call import Call
from meshlib.dataplane.request import HeaderFacts, Request
from meshlib.errors import NotYet
from meshlib.exchange import AsyncCallExchange, CallExchange, CommonExchange, whole
from meshlib.outgoing import Short, Split, split_url
from meshlib.transport.base import Headers, Timeouts, WireResponse

__all__ = ["AsyncShortCalls", "ShortCalls", "Shortcut"]

_NEEDED = ("_auth", "_event_hooks", "_mounts", "_params", "_state", "_default_encoding", "_build_redirect_request")
_SENDS_LENGTH = frozenset({"POST", "PUT", "PATCH"})
_FULL_WAY = frozenset({b"content-encoding", b"set-cookie", b"location"})
"""Response headers that the library itself has to deal with."""

_FULL_WAY_LENGTHS = frozenset(map(len, _FULL_WAY))

_PARTICULAR = frozenset({b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"cookie"})
"""Request headers that make a call more than plain."""

_SHORT_WORDS = frozenset({"content", "json", "headers", "follow_redirects", "timeout"})
"""What a plain call may say."""

_STEPS = ("send", "build_request", "_send_handling_auth", "_send_handling_redirects", "_send_single_request")
"""What a subclass must not have changed."""

_URLS = 4096
"""URLs whose parts a client remembers."""


class _Bare(NamedTuple):
    """What calls that add no headers send to one server, made once.

    Attributes:
        own: The client's own headers, of which it was made.
        headers: What is sent; nobody changes it.
        facts: What is known of it.
    """

    own: Headers
    headers: Headers
    facts: HeaderFacts


class _ShortExchange(CommonExchange):
    """An exchange that hands back what came off the wire."""

    def accept(self, call: Call, reply: WireResponse) -> WireResponse:
        """The reply itself; whoever drives the exchange makes the response."""
        self.timeouts.deadline = call.deadline
        return reply

    def answer(self, call: Call) -> Any:
        """As ever, and the response knows its request."""
        response = super().answer(call)
        response.request = self.request
        return response

    def response(self, call: Call, reply: WireResponse, body: Any) -> Any:
        """As ever, and the response knows its request."""
        response = super().response(call, reply, body)
        response.request = self.request
        return response


class ShortExchange(_ShortExchange, CallExchange):
    """On the blocking path."""


class AsyncShortExchange(_ShortExchange, AsyncCallExchange):
    """On the cooperative path."""


class Shortcut:
    """Which calls of one client are plain, and what such a call says.

    Args:
        client: The client.
        library: ``httpx`` or ``httpx2``.
        face: The client's mesh transport.
        response: The library's ``Response`` with ``LazyResponse`` mixed in.
    """

    def __init__(self, client: Any, library: Any, face: Any, response: type[Any]) -> None:
        self._client = client
        self._library = library
        self._face = face
        self._response = response
        self._default = library.USE_CLIENT_DEFAULT
        self._log = logging.getLogger(library.__name__)
        self._usable = _is_untouched(type(client)) and all(hasattr(client, name) for name in _NEEDED)
        states: Any = type(client._state) if self._usable else None
        self._opened = getattr(states, "OPENED", None)
        self._closed = getattr(states, "CLOSED", None)
        self._urls: dict[str, Split] = {}
        self._bare: dict[bytes, _Bare] = {}
        self._no_params: Any = None
        self._ordinary: Headers = []
        self._listed: list[Any] | None = None

    def read(self, method: str, url: Any, options: Mapping[str, Any]) -> Short | None:
        """The call in its shortest form; None when it has to go the full way."""
        client = self._client
        if not self._usable or type(url) is not str or not self._is_plain(client):
            return None
        split = self._urls.get(url) or self._split(url)
        if split is None or not self._are_plain(options):
            return None
        content, json = options.get("content") or None, options.get("json")
        body = kind = None
        if content is not None or json is not None:
            body, kind = _body(content, json)
            if body is None:
                return None
        method = method.upper()
        own, given = self._own_headers(), options.get("headers")
        if own is None:
            return None
        raw: Headers | None
        facts: HeaderFacts | None = None
        if body is None and not given and method not in _SENDS_LENGTH:
            _, raw, facts = self._bare_headers(split.netloc, own)
        else:
            raw = _headers(split, method, body, kind, own, given)
        if raw is None:
            return None
        scheme, host, port, path, now = split.scheme, split.host, split.port, split.path, wall()
        core = Request(method, scheme, split.authority, port, path, raw, host=host, start_time=now, facts=facts)
        if client._state is not self._opened:
            client._state = self._opened
        return Short(core, method.encode("ascii"), body, self._timeouts(options), self._build)

    def _timeouts(self, options: Mapping[str, Any]) -> Timeouts:
        asked = options.get("timeout", self._default)
        given = self._client.timeout if asked is self._default else self._library.Timeout(asked)
        return Timeouts(given.connect, given.read, given.write, given.pool)

    def _are_plain(self, options: Mapping[str, Any]) -> bool:
        """Whether the call asks for nothing that only the full way does."""
        for name, value in options.items():
            if value is not None and name not in _SHORT_WORDS and value is not self._default:
                return False
        return options.get("auth", self._default) is self._default

    def _is_plain(self, client: Any) -> bool:
        """Whether the client itself asks for nothing that only the full way does."""
        if client._state is self._closed or client._auth is not None or client._mounts:
            return False
        params = client._params
        if params is not self._no_params:  # they do not change, others are put in their place
            if params:
                return False
            self._no_params = params
        hooks = client._event_hooks
        if hooks["request"] or hooks["response"]:
            return False
        cookies = client.cookies  # an empty jar is told by its dict, for asking it walks through all of it
        return not getattr(cookies.jar, "_cookies", True) or not cookies

    def _split(self, url: str) -> Split | None:
        split = split_url(url)
        if split is not None:
            if len(self._urls) >= _URLS:
                self._urls.clear()
                self._bare.clear()
            self._urls[url] = split
        return split

    def _own_headers(self) -> Headers | None:
        """The client's own; None where one of them is more than a plain call says."""
        listed = getattr(self._client.headers, "_list", None)
        if listed is None or listed != self._listed:
            own = self._client.headers.raw
            if not _PARTICULAR.isdisjoint(name.lower() for name, _ in own):
                return None
            self._ordinary, self._listed = own, listed and list(listed)
        return self._ordinary

    def _bare_headers(self, netloc: bytes, own: Headers) -> _Bare:
        """All headers of a call that adds none and has no body."""
        known = self._bare.get(netloc)
        if known is None or known.own is not own:
            headers = [(b"Host", netloc), *own]
            known = self._bare[netloc] = _Bare(own, headers, HeaderFacts.of(headers))
        return known

    def _build(self, short: Short) -> Any:
        """The library's request of a short one."""
        core, given = short.core, short.timeouts
        timeout = {"connect": given.connect, "read": given.read, "write": given.write, "pool": given.pool}
        url = f"{core.scheme}://{core.authority}{core.path}"
        return self._library.Request(
            core.method, url, headers=list(core.raw_headers), content=short.content, extensions={"timeout": timeout}
        )

    # From the reply to the response ---------------------------------------------------------------------------------

    def send(self, exchange: CallExchange, follow_redirects: Any) -> Any:
        """Send what was begun; the response has been read.

        Args:
            exchange: What was begun.
            follow_redirects: As the call says it; None leaves it to the client.
        """
        started = perf_counter()
        reply = self._face.drive(exchange)
        response = self._lazy(exchange, reply, started)
        if response is not None:
            return response
        response, client = self._full(exchange, reply, exchange.faces.body), self._client
        try:
            response.read()
        except BaseException:
            response.close()
            raise
        following = self._settle(response, started, follow_redirects)
        if following is not None:
            response = client._send_handling_redirects(following, follow_redirects=True, history=[response])
            response.read()
        return response

    async def asend(self, exchange: AsyncCallExchange, follow_redirects: Any) -> Any:
        """The cooperative twin of ``send``."""
        started = perf_counter()
        reply = await self._face.drive(exchange)
        response = self._lazy(exchange, reply, started)
        if response is not None:
            return response
        response, client = self._full(exchange, reply, exchange.faces.async_body), self._client
        try:
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        following = self._settle(response, started, follow_redirects)
        if following is not None:
            response = await client._send_handling_redirects(following, follow_redirects=True, history=[response])
            await response.aread()
        return response

    def _lazy(self, exchange: Any, reply: Any, started: float) -> Any:
        """The response, when its body has come completely and no header of it concerns the library; else None."""
        if type(reply) is not WireResponse:
            return None
        call = exchange.call
        headers = call.response_headers(reply.headers)
        for name, _ in headers:
            if len(name) in _FULL_WAY_LENGTHS and name.lower() in _FULL_WAY:
                return None
        content = whole(reply.body)
        if content is None:
            return None
        call.response_bytes += len(content)
        exchange.ended(call, reply.body)
        extensions = reply.extensions
        extensions["mesh"] = call
        response = self._response(reply.status, headers, content, exchange.given, extensions)
        if self._client._default_encoding != "utf-8":
            response.default_encoding = self._client._default_encoding
        response._took = perf_counter() - started
        if self._log.isEnabledFor(logging.INFO):
            self._tell(response)
        return response

    @staticmethod
    def _full(exchange: Any, reply: Any, body: Any) -> Any:
        """The library's response around a body that is still to be read; one made here comes as it is."""
        if type(reply) is not WireResponse:
            return reply
        return exchange.response(exchange.call, reply, body(exchange, reply))

    def _settle(self, response: Any, started: float, follow_redirects: Any) -> Any:
        """Cookies, time taken, log; the next request when the response is a redirect that is to be followed."""
        client = self._client
        response.elapsed = timedelta(seconds=perf_counter() - started)
        client.cookies.extract_cookies(response)
        response.default_encoding = client._default_encoding
        self._tell(response)
        if not response.has_redirect_location:
            return None
        following = client._build_redirect_request(response.request, response)
        if client.follow_redirects if follow_redirects in (None, self._default) else follow_redirects:
            return following
        response.next_request = following
        return None

    def _tell(self, response: Any) -> None:
        """The line that the library logs of every request."""
        if self._log.isEnabledFor(logging.INFO):
            request = response.request
            self._log.info(
                'HTTP Request: %s %s "%s %d %s"',
                request.method,
                request.url,
                response.http_version,
                response.status_code,
                response.reason_phrase,
            )


def _is_untouched(kind: type[Any]) -> bool:
    """Whether a client's class leaves every step of a request as this module and the library have them."""
    changed = ("request", *_STEPS)
    for base in kind.__mro__:
        if base in (ShortCalls, AsyncShortCalls):
            return True
        if any(name in vars(base) for name in changed):
            return False
    return False


class ShortCalls:
    """Mixed into a client in front of the library's: plain calls take the short way."""

    _shortcut: Shortcut
    _face: Any

    def request(self, method: str, url: Any, **options: Any) -> Any:
        """Build and send a request; see the library's ``Client.request``."""
        short = self._shortcut.read(method, url, options)
        exchange = self._face.begin(short, ShortExchange) if short is not None else None
        if exchange is None:
            return super().request(method, url, **options)  # type: ignore[misc]
        return self._shortcut.send(exchange, options.get("follow_redirects"))


class AsyncShortCalls:
    """The cooperative twin of ``ShortCalls``."""

    _shortcut: Shortcut
    _face: Any

    async def request(self, method: str, url: Any, **options: Any) -> Any:
        """Build and send a request; see the library's ``AsyncClient.request``."""
        short, face = self._shortcut.read(method, url, options), self._face
        if short is not None and not face.is_entered:
            await face.enter()
        try:
            exchange = face.begin(short, AsyncShortExchange) if short is not None else None
        except NotYet:
            exchange = await face.begun(short, AsyncShortExchange)
        if exchange is None:
            return await super().request(method, url, **options)  # type: ignore[misc]
        return await self._shortcut.asend(exchange, options.get("follow_redirects"))


def _body(content: Any, json: Any) -> tuple[bytes | None, bytes | None]:
    """The body and its content type, where both are simple; (None, None) where not, and where there is no body."""
    if json is not None:
        if content is not None:
            return None, None
        text = dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), b"application/json"
    if isinstance(content, str):
        return content.encode(), None
    return (content if isinstance(content, bytes) else None), None


def _headers(
    split: Split, method: str, body: bytes | None, kind: bytes | None, own: Headers, given: Any
) -> Headers | None:
    """All headers in the library's order; None where one of them is more than a plain call says."""
    if given:
        merged = _merged(own, given)
        if merged is None:
            return None
        own = merged
    raw: Headers = [(b"Host", split.netloc)]
    if body is None:
        if method in _SENDS_LENGTH:
            raw.append((b"Content-Length", b"0"))
        return raw + own
    raw += own
    raw.append((b"Content-Length", b"%d" % len(body)))
    if kind is not None and not any(name.lower() == b"content-type" for name, _ in own):
        raw.append((b"Content-Type", kind))
    return raw


def _merged(own: Headers, given: Any) -> Headers | None:
    """The client's headers and the call's, which win; None where they are no plain mapping of ordinary names."""
    if type(given) is not dict:
        return None
    try:
        added = [(name.encode("ascii"), value.encode("ascii")) for name, value in given.items()]
    except (AttributeError, UnicodeEncodeError):
        return None
    names = {name.lower() for name, _ in added}
    if not _PARTICULAR.isdisjoint(names) or any(value.startswith(b"application/grpc") for _, value in added):
        return None
    return [pair for pair in own if pair[0].lower() not in names] + added
