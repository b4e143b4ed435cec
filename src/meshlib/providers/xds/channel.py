"""Channels to control planes and their credentials: none, TLS, mutual TLS, a token file, Google's default.

Files are read anew for each channel, and each stream has a channel of its own, so that what was rotated counts from the
next stream on. Source: gRFCs A27, A65, A97.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.clock import wall
from meshlib.errors import ConfigError
from meshlib.xds.bootstrap import Credentials, Server

if TYPE_CHECKING:
    grpc: Any
else:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:  # pragma: no cover - depends on what is installed
        raise ImportError(f"control planes are reached by grpcio: pip install 'meshlib[xds]' ({error})") from error

__all__ = ["KeepAlive", "call_metadata", "channel", "credentials"]

_PLUGINS, _REQUESTS = ".transport.grpc", ".transport.requests"
_LARGEST_ANSWER = 256 << 20
_EARLY = 30.0
"""Seconds before its end from which on a token is not sent any more (gRFC A97)."""

Metadata = tuple[tuple[str, str], ...]


class KeepAlive(NamedTuple):
    """How a silent peer is found out.

    Attributes:
        interval: Seconds without a word from the server after which it is asked.
        timeout: Seconds within which it must answer.
    """

    interval: float = 30.0
    timeout: float = 10.0


def channel(server: Server, secure: Any, keepalive: KeepAlive) -> Any:
    """A channel to a server, of the running event loop; nothing is dialled yet.

    Args:
        server: Whom to reach.
        secure: Its credentials, see ``credentials``; None is plaintext.
        keepalive: How silence is found out.
    """
    options = (
        ("grpc.keepalive_time_ms", round(keepalive.interval * 1000)),
        ("grpc.keepalive_timeout_ms", round(keepalive.timeout * 1000)),
        ("grpc.http2.ping_timeout_ms", round(keepalive.timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        ("grpc.use_local_subchannel_pool", 1),  # a stream that failed leaves nothing behind for the next
        ("grpc.enable_retries", 0),
        ("grpc.primary_user_agent", "meshlib"),
    )
    if secure is None:
        return grpc.aio.insecure_channel(server.uri, options=options)
    return grpc.aio.secure_channel(server.uri, secure, options=options)


def credentials(server: Server) -> Any:
    """The credentials of a channel, None for plaintext. Reads files, so it may block.

    Raises:
        ConfigError: They cannot be had.
    """
    kind = server.channel_credentials.type
    if kind == "insecure":
        if server.call_credentials:
            raise ConfigError(f"{server.uri}: tokens are not sent without TLS")
        return None
    return _google(server.uri) if kind == "google_default" else _tls(server.channel_credentials)


def _tls(given: Credentials) -> Any:
    names = ("ca_certificate_file", "private_key_file", "certificate_file")
    roots, key, chain = (_contents(given.config.get(name)) for name in names)
    return grpc.ssl_channel_credentials(roots, key, chain)


def _contents(path: Any) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _google(target: str) -> Any:
    """TLS by the system's roots, and tokens of the account that Google's rules find in the environment."""
    try:
        auth, plugins, requests = (import_module(f"google.auth{part}") for part in ("", _PLUGINS, _REQUESTS))
    except ImportError as error:
        raise ConfigError(f"google_default needs google-auth: pip install 'meshlib[google]' ({error})") from error
    try:
        found, _ = auth.default(default_scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except auth.exceptions.DefaultCredentialsError as error:
        raise ConfigError(f"no Google default credentials: {error}") from error
    host = target.rpartition("/")[2].rpartition(":")[0]
    plugin = plugins.AuthMetadataPlugin(found, requests.Request(), default_host=host)
    return grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(plugin))


def call_metadata(given: Sequence[Credentials]) -> Metadata:
    """What call credentials add to a stream's headers.

    Raises:
        ConfigError: A token cannot be read, is none, or is at its end.
    """
    tokens = (_token(each.config.get("jwt_token_file")) for each in given)
    return tuple(("authorization", f"Bearer {token}") for token in tokens)


def _token(path: Any) -> str:
    token = (_contents(path) or b"").decode("ascii", "replace").strip()
    try:
        claims = token.split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("exp")
    except (IndexError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} holds no JSON web token") from error
    if isinstance(ends, int | float) and ends - _EARLY <= wall():
        raise ConfigError(f"the token of {path} ends at {ends:.0f}, and it is {wall():.0f}")
    return token
