"""HTTP to the API server, over the very transport that requests take: one page, one stream of lines.

Over TLS all lists and watches share one connection of HTTP/2, where the server speaks it, as API servers do. When a
file of certificates or a kubeconfig changes, all of it is read again for new connections.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

from meshlib.dataplane.outcome import Failure as Wire
from meshlib.errors import ConfigError
from meshlib.model.policy import ConnectionPool, Http2KeepAlive, TcpKeepalive
from meshlib.providers.kubernetes.certificates import Shown, context_of
from meshlib.providers.kubernetes.credentials import Credential, credentials_of
from meshlib.providers.kubernetes.failures import Failure, RequestFailed, of_status
from meshlib.providers.kubernetes.kubeconfig import Access
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.cooperative import CooperativePools

__all__ = ["Session"]

_ANSWER, _PAGE = 30.0, 120.0
"""Seconds to the head of an answer, and for the whole of a page."""
_MOST = 64 * 1024 * 1024
"""Bytes of a line: Kubernetes allows 1.5 MiB an object."""
_LARGEST = 256 * 1024 * 1024
"""Bytes of a page."""
_NOBODY = frozenset({Wire.CONNECT, Wire.CONNECT_TIMEOUT})


class _Question(NamedTuple):
    """What is asked of the server; a body is a merge patch."""

    method: bytes
    path: str
    query: Mapping[str, str]
    accept: str
    body: bytes | None = None


class Session:
    """A client of one API server, for one event loop.

    Args:
        find: Reads where the server is and who we are.
        idle: Seconds of silence after which the peer is taken for gone. Over HTTP/2 it is asked by PING well before,
            so that nobody resumes over a dead connection.

    Raises:
        ConfigError: A certificate or key cannot be read.
    """

    def __init__(self, find: Callable[[], Access], idle: float) -> None:
        self._find, self._settings = find, _settings(idle)
        self._pools = CooperativePools()
        self._read()

    def _read(self) -> None:
        access = self._find()
        self._url, self._stamps = _server(access), _stamps(access)
        self._credentials = credentials_of(access)
        self._impersonation = tuple((k.encode("ascii"), v.encode("utf-8")) for k, v in access.user.impersonation)
        self._access = access
        self._certificate: Shown | None = None
        self._dial(None)

    def _dial(self, certificate: Shown | None) -> None:
        """Where to connect to, with the certificate that a command gave, if it did."""
        cluster, url = self._access.cluster, self._url
        context = context_of(cluster, self._access.user, certificate) if url.scheme == "https" else None
        host, port = url.hostname or "", url.port or (443 if context is not None else 80)
        name = cluster.tls_server_name or host
        secure = context is not None
        self._target = Target(host, port, secure, context, name, self._settings, http1_too=secure)
        self._certificate = certificate

    async def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json") -> Any:
        """The JSON of an answer.

        Raises:
            RequestFailed: There was none, or not a good one.
        """
        return await self._whole(_Question(b"GET", path, query or {}, accept))

    async def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """Change an object by a JSON merge patch.

        Raises:
            RequestFailed: It was not taken; with status 409 where the object is not what it was.
        """
        await self._whole(_Question(b"PATCH", path, {}, "application/json", json.dumps(change).encode()))

    async def _whole(self, question: _Question) -> Any:
        with _told():
            response = await self._send(question, Timeouts(deadline=monotonic() + _PAGE))
            raw = await _whole(response)
        if response.status != 200:
            raise RequestFailed(_of_answer(response, raw))
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RequestFailed(Failure(f"an answer that is no JSON: {error}")) from None

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], accept: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on and on; the reader bounds how long it waits for one.

        Raises:
            RequestFailed: There was no answer, not a good one, or it broke off.
        """
        timeouts = Timeouts(deadline=monotonic() + _ANSWER)
        with _told():
            response = await self._send(_Question(b"GET", path, query, accept), timeouts)
            if response.status != 200:
                raise RequestFailed(_of_answer(response, await _whole(response)))
            timeouts.deadline = None
            try:
                yield _lines(response)
            finally:
                await response.body.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.aclose()

    async def _send(self, question: _Question, timeouts: Timeouts) -> WireResponse:
        """The answer; after a 401 that of a second attempt, if there are other credentials by then."""
        if _stamps(self._access) != self._stamps:
            await self._anew(self._read)
        used = await self._credentials.current()
        response = await self._once(question, timeouts, used)
        if response.status == 401:
            other = await self._credentials.current(used)
            if other != used:
                await response.body.aclose()
                response = await self._once(question, timeouts, other)
        return response

    async def _anew(self, read: Callable[[], None]) -> None:
        """Read files in a thread."""
        try:
            await asyncio.to_thread(read)
        except ConfigError as error:  # half of it is written yet
            raise RequestFailed(Failure(str(error))) from None

    async def _once(self, question: _Question, timeouts: Timeouts, shown: Credential) -> WireResponse:
        if shown.certificate != self._certificate:
            await self._anew(partial(self._dial, shown.certificate))
        query = f"?{urlencode(question.query)}" if question.query else ""
        target = self._url.path.rstrip("/") + question.path + query
        headers = [
            (b"Host", self._url.netloc.rpartition("@")[2].encode("ascii")),
            (b"User-Agent", b"meshlib"),
            (b"Accept", question.accept.encode("ascii")),
        ]
        headers += self._impersonation
        if question.body is not None:
            headers.append((b"Content-Type", b"application/merge-patch+json"))
            headers.append((b"Content-Length", b"%d" % len(question.body)))
        if shown.authorization:
            headers.append((b"Authorization", shown.authorization.encode("latin-1", "replace")))
        scheme = self._url.scheme.encode("ascii")
        return await self._pools.send(
            self._target, WireRequest(question.method, target.encode(), scheme, headers, question.body, timeouts)
        )


def _settings(idle: float) -> ConnectionPool:
    """Source of the PING's times at 75 s: client-go asks a server that was silent for 30 s, and waits 15 s."""
    return ConnectionPool(
        connect_timeout=10.0,
        idle_timeout=30.0,
        tcp_keepalive=TcpKeepalive(probes=3, time=15.0, interval=5.0),
        http2_keepalive=Http2KeepAlive(interval=0.4 * idle, timeout=0.2 * idle),
    )


def _server(access: Access) -> SplitResult:
    server = access.cluster.server
    url = SplitResult("", "", "", "", "")
    try:
        url = urlsplit(server if "://" in server else f"https://{server}")
        good = url.scheme in ("http", "https") and bool(url.hostname) and server.isascii() and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{server!r} is no address of an API server")
    return url


def _stamps(access: Access) -> tuple[float, ...]:
    """When the kubeconfig and the files that it names were written; a file that is not there counts as never."""
    return tuple(_stamp(each) for each in access.named_files)


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return -1.0


@contextmanager
def _told() -> Iterator[None]:
    """What breaks on the wire, as a failure."""
    try:
        yield
    except WireError as error:
        raise RequestFailed(Failure(f"{error.failure.value}: {error}", away=error.failure in _NOBODY)) from error


async def _whole(response: WireResponse) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in response.body:
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST:
                raise RequestFailed(Failure(f"an answer of more than {_LARGEST} bytes"))
    finally:
        await response.body.aclose()
    return b"".join(chunks)


async def _lines(response: WireResponse) -> AsyncIterator[bytes]:
    """Whole lines; what stands after the last newline when the stream ends was cut off, and is nothing."""
    pending = b""
    async for chunk in response.body:
        *whole, rest = bytes(chunk).split(b"\n")
        if whole:
            yield pending + whole[0]
            for line in whole[1:]:
                yield line
            pending = rest
        else:
            pending += rest
        if len(pending) > _MOST:
            raise RequestFailed(Failure(f"a line of more than {_MOST} bytes"))


def _of_answer(response: WireResponse, raw: bytes) -> Failure:
    headers = {name.lower(): value for name, value in response.headers}
    given = headers.get(b"retry-after", b"")
    after = float(given) if given.isdigit() and len(given) < 6 else 0.0
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("kind") == "Status":
        return of_status(value, response.status, after)
    return Failure(f"{response.status} {response.reason.decode('latin-1')}", response.status, retry_after=after)
