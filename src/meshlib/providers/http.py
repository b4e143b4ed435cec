"""Talks to a server that keeps configuration, over the very transport that requests take; HTTP/1.1, asyncio.

Every exchange is bounded as a whole, so that neither silence nor a slow drip holds it; a stream is bounded between two
pieces. TCP keepalive tells within half a minute that a peer is gone without a word. Certificates are read again when
their files change.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import unquote, urlsplit

from meshlib.errors import ConfigError
from meshlib.model.policy import ConnectionPool, TcpKeepalive, Tls, TlsMode
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.cooperative import CooperativePools
from meshlib.transport.tls import TlsContexts, TlsUnavailable

__all__ = ["TROUBLE", "Answer", "BadAnswer", "HttpServer", "tls_of"]

_MOST = 256 * 1024 * 1024
"""Bytes of one answer; more is garbage."""
_SETTINGS = ConnectionPool(
    connect_timeout=5.0, idle_timeout=90.0, tcp_keepalive=TcpKeepalive(probes=3, time=10.0, interval=5.0)
)


class BadAnswer(Exception):
    """An answer that is not the one asked for.

    Attributes:
        status: Its HTTP status; 200 for a body that cannot be read.
        text: What the server said, shortened.
        retry_after: Seconds that the server asks to wait, 0.0 for nothing said.
    """

    def __init__(self, status: int, text: str, retry_after: float = 0.0) -> None:
        super().__init__(f"HTTP {status}: {text}" if status != 200 else text)
        self.status = status
        self.text = text
        self.retry_after = retry_after


TROUBLE = (WireError, TlsUnavailable, BadAnswer, OSError)
"""What asking again later may mend."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def tls_of(ca: str = "", certificate: str = "", key: str = "", *, verify: bool = True) -> Tls:
    """TLS to a server, with a certificate of our own where one is given."""
    mode = TlsMode.MUTUAL if certificate else TlsMode.SIMPLE
    return Tls(mode, ca_certificates=ca, client_certificate=certificate, private_key=key, verify=verify)


class HttpServer:
    """One server.

    Args:
        url: ``http://host:port``, ``https://host:port`` or ``unix:///path``; ``host:port`` is plain HTTP.
        tls: For ``https``; None trusts the system's roots.
        server_name: TLS name to ask for and to check; the URL's host by default.

    Raises:
        ConfigError: The URL is none of these.
    """

    def __init__(self, url: str, tls: Tls | None = None, server_name: str = "") -> None:
        self.url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r}: {error}") from None
        if parts.scheme not in ("http", "https", "unix") or not (
            parts.path if parts.scheme == "unix" else parts.hostname
        ):
            raise ConfigError(f"{url!r} is no address of a server: http://host:port, https://host:port or unix:///path")
        self._secure, local = parts.scheme == "https", parts.scheme == "unix"
        self._prefix = "" if local else parts.path.rstrip("/")
        self._address = f"unix://{unquote(parts.path)}" if local else parts.hostname or ""
        self._port = 0 if local else port or (443 if self._secure else 80)
        self._authority = parts.netloc.rpartition("@")[2] or "localhost"
        self._tls = tls or tls_of()
        self._name = server_name or parts.hostname or ""
        self._pools = CooperativePools()
        self._known: tuple[tuple[float, ...], Target] | None = None

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str], limit: float, body: bytes | None = None
    ) -> Answer:
        """One exchange, ``limit`` seconds at most from the first byte to the last.

        Raises:
            WireError: It broke, or took too long.
            TlsUnavailable: A certificate cannot be read.
            BadAnswer: The answer has a status other than 2xx, or is endless.
        """
        timeouts = Timeouts(deadline=monotonic() + limit)
        response = await self._send(method, path, headers, body, timeouts)
        try:
            chunks, size = [], 0
            async for chunk in response.body:
                chunks.append(chunk)
                size += len(chunk)
                if size > _MOST:
                    raise BadAnswer(200, f"the answer is larger than {_MOST} bytes")
        finally:
            await response.body.aclose()
        answer = Answer(response.status, _named(response), b"".join(chunks))
        if not 200 <= answer.status < 300:
            raise BadAnswer(answer.status, _words(answer), _seconds(answer.headers.get("retry-after", "")))
        return answer

    async def lines(
        self, path: str, *, headers: Mapping[str, str], body: bytes, silence: float, longest: int = 64 * 1024 * 1024
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that goes on and on; POST.

        Args:
            path: What is asked for.
            headers: To send.
            body: To send.
            silence: Seconds that may pass between two pieces of the answer.
            longest: Bytes of one line.

        Raises:
            WireError: See ``ask``; also when nothing came for too long.
            BadAnswer: See ``ask``; also for an endless line.
        """
        timeouts = Timeouts(read=silence, write=silence, deadline=monotonic() + silence)
        response = await self._send("POST", path, headers, body, timeouts)
        timeouts.deadline = None
        rest = b""
        try:
            if not 200 <= response.status < 300:
                timeouts.deadline = monotonic() + silence
                raise BadAnswer(response.status, _words(Answer(response.status, {}, await _start(response))))
            async for chunk in response.body:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line
                if len(rest) > longest:
                    raise BadAnswer(200, f"a line is longer than {longest} bytes")
        finally:
            await response.body.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.aclose()

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeouts: Timeouts
    ) -> WireResponse:
        sent = [(b"Host", self._authority.encode("idna" if not self._authority.isascii() else "ascii"))]
        sent += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if body is not None:
            sent.append((b"Content-Length", b"%d" % len(body)))
        scheme = b"https" if self._secure else b"http"
        target = await self._target()
        return await self._pools.send(
            target, WireRequest(method.encode(), (self._prefix + path).encode("ascii"), scheme, sent, body, timeouts)
        )

    async def _target(self) -> Target:
        """Where it is, with the certificates that stand in their files now."""
        stamps = _stamps(self._tls) if self._secure else ()
        if self._known is None or self._known[0] != stamps:
            context: ssl.SSLContext | None = None
            if self._secure:
                context = await asyncio.to_thread(TlsContexts().get, self._tls)
            if self._known is not None:
                self._pools.retire([(self._address, self._port)])
            target = Target(self._address, self._port, False, context, self._name, _SETTINGS)
            self._known = (stamps, target)
        return self._known[1]


def _stamps(tls: Tls) -> tuple[float, ...]:
    """When the files were written; a file that is not there counts as never."""
    found = []
    for name in (tls.ca_certificates, tls.client_certificate, tls.private_key):
        try:
            found.append(Path(name).stat().st_mtime if name else 0.0)
        except OSError:
            found.append(-1.0)
    return tuple(found)


def _named(response: WireResponse) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


async def _start(response: WireResponse) -> bytes:
    async for chunk in response.body:
        return bytes(chunk)
    return b""


def _words(answer: Answer) -> str:
    return answer.body[:300].decode("utf-8", "replace").strip() or "no reason given"


def _seconds(text: str) -> float:
    return min(float(text), 300.0) if text.isascii() and text.isdigit() else 0.0
