"""Our errors in a form that code which opens sockets knows: each is an ``OSError`` too."""

from __future__ import annotations

from meshlib.errors import (
    ConnectFailure,
    MeshError,
    NoCluster,
    NoHealthyUpstream,
    Overflow,
    UnknownHost,
)

__all__ = ["ConnectTimeout", "as_os_error"]


class _ConnectFailure(ConnectFailure, ConnectionError):
    """So that ``except OSError`` keeps working in drivers that have never heard of meshlib."""


class ConnectTimeout(ConnectFailure, TimeoutError):
    """No connection within the connect timeout."""


class _NoHealthyUpstream(NoHealthyUpstream, ConnectionError):
    """See ``_ConnectFailure``."""


class _Overflow(Overflow, ConnectionError):
    """See ``_ConnectFailure``."""


class _NoCluster(NoCluster, ConnectionError):
    """See ``_ConnectFailure``."""


class _UnknownHost(UnknownHost, ConnectionError):
    """See ``_ConnectFailure``."""


_BOTH: tuple[type[MeshError], ...] = (
    _ConnectFailure,
    _NoHealthyUpstream,
    _Overflow,
    _NoCluster,
    _UnknownHost,
)


def as_os_error(error: MeshError) -> MeshError:
    """The same error as a type that is an ``OSError`` as well."""
    if isinstance(error, OSError):
        return error
    kind = next((both for both in _BOTH if isinstance(error, both.__mro__[1])), None)
    if kind is None:
        return error
    route, cluster, endpoint = error.route, error.cluster, error.endpoint
    return kind(str(error), route=route, cluster=cluster, endpoint=endpoint, attempts=error.attempts)
