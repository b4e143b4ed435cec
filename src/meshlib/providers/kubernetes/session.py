"""HTTP to the API server, over the very transport that requests take: one page, one stream of lines.

Where the server is, its certificates and ours are read by lightkube: of the pod's service account, or of a kubeconfig.
Nothing else of it is used: a client with models of all of Kubernetes would cost more memory than everything that a mesh
knows. When one of the files changes, all of it is read again for new connections.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit

from meshlib.dataplane.outcome import Failure as Wire
from meshlib.errors import ConfigError
from meshlib.model.policy import ConnectionPool, TcpKeepalive
from meshlib.providers.kubernetes.credentials import credentials_of
from meshlib.providers.kubernetes.failures import Failure, RequestFailed, of_status
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.cooperative import CooperativePools

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

__all__ = ["Session", "cluster_config"]

_ANSWER, _PAGE = 30.0, 120.0
"""Seconds to the head of an answer, and for the whole of a page."""
_MOST = 64 * 1024 * 1024
"""Bytes of a line: Kubernetes allows 1.5 MiB an object."""
_LARGEST = 256 * 1024 * 1024
"""Bytes of a page."""
_SETTINGS = ConnectionPool(
    connect_timeout=10.0, idle_timeout=30.0, tcp_keepalive=TcpKeepalive(probes=3, time=15.0, interval=5.0)
)
_NOBODY = frozenset({Wire.CONNECT, Wire.CONNECT_TIMEOUT})


def cluster_config(
    kubeconfig: str | Path | None, context: str | None, service_account: str | Path | None = None
) -> SingleConfig:
    """Where the server is and who we are.

    Args:
        kubeconfig: A file; None takes the pod's service account, else ``KUBECONFIG``, else ``~/.kube/config``.
        context: Of the file; None takes its current one.
        service_account: Folder of a service account, instead of both.

    Raises:
        ImportError: lightkube is not installed.
        ConfigError: There is no such file or context, or it cannot be read.
    """
    try:
        from lightkube import KubeConfig
    except ImportError:
        raise ImportError("KubernetesProvider needs lightkube: install meshlib[kubernetes]") from None
    where = str(service_account or kubeconfig or "environment")
    try:
        if service_account is not None:
            known = KubeConfig.from_service_account(service_account)
        else:
            known = KubeConfig.from_env() if kubeconfig is None else KubeConfig.from_file(kubeconfig)
        found = known.get(context)
    except Exception as error:  # of YAML, of files, of its own
        raise ConfigError(f"no cluster: {where}: {error or type(error).__name__}") from None
    if found is None:
        raise ConfigError(f"no cluster: {where} has no context {context!r}")
    return found


class Session:
    """A client of one API server, for one event loop.

    Args:
        find: Reads what ``cluster_config`` gives.

    Raises:
        ConfigError: A certificate or key cannot be read.
    """

    def __init__(self, find: Callable[[], SingleConfig]) -> None:
        self._find = find
        self._pools = CooperativePools()
        self._read()

    def _read(self) -> None:
        from lightkube.config.client_adapter import verify_cluster
        from lightkube.config.models import User

        config = self._find()
        self._url, self._stamps = _server(config), _stamps(config)
        self._credentials = credentials_of(config)
        context = None
        if self._url.scheme == "https":
            try:
                context = verify_cluster(config.cluster, config.user or User(), config.abs_file)
            except (OSError, ValueError) as error:
                raise ConfigError(f"no certificates for {config.cluster.server}: {error}") from None
        host, port = self._url.hostname or "", self._url.port or (443 if context is not None else 80)
        self._target = Target(host, port, tls=context, server_name=host, settings=_SETTINGS)
        self._config = config

    async def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json") -> Any:
        """The JSON of an answer.

        Raises:
            RequestFailed: There was none, or not a good one.
        """
        with _told():
            response = await self._send(path, query or {}, accept, Timeouts(deadline=monotonic() + _PAGE))
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
            response = await self._send(path, query, accept, timeouts)
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

    async def _send(self, path: str, query: Mapping[str, str], accept: str, timeouts: Timeouts) -> WireResponse:
        """The answer; after a 401 that of a second attempt, if there are other credentials by then."""
        if _stamps(self._config) != self._stamps:
            try:
                await asyncio.to_thread(self._read)
            except ConfigError as error:  # half of it is written yet
                raise RequestFailed(Failure(str(error))) from None
        used = await self._credentials.authorization()
        response = await self._once(path, query, accept, timeouts, used)
        if response.status == 401:
            other = await self._credentials.authorization(used)
            if other != used:
                await response.body.aclose()
                response = await self._once(path, query, accept, timeouts, other)
        return response

    async def _once(
        self, path: str, query: Mapping[str, str], accept: str, timeouts: Timeouts, authorization: str
    ) -> WireResponse:
        target = self._url.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        headers = [
            (b"Host", self._url.netloc.rpartition("@")[2].encode("ascii")),
            (b"User-Agent", b"meshlib"),
            (b"Accept", accept.encode("ascii")),
        ]
        if authorization:
            headers.append((b"Authorization", authorization.encode("latin-1", "replace")))
        scheme = self._url.scheme.encode("ascii")
        return await self._pools.send(
            self._target, WireRequest(b"GET", target.encode(), scheme, headers, None, timeouts)
        )


def _server(config: SingleConfig) -> SplitResult:
    server = config.cluster.server
    url = SplitResult("", "", "", "", "")
    try:
        url = urlsplit(server if "://" in server else f"https://{server}")
        good = url.scheme in ("http", "https") and bool(url.hostname) and server.isascii() and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{server!r} is no address of an API server")
    return url


def _stamps(config: SingleConfig) -> tuple[float, ...]:
    """When the kubeconfig and the files that it names were written; a file that is not there counts as never."""
    user = config.user
    named = [config.cluster.certificate_auth, *((user.client_cert, user.client_key) if user is not None else ())]
    files = [config.fname, *(config.abs_file(each) for each in named if each)]
    return tuple(_stamp(Path(each)) for each in files if each is not None)


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
