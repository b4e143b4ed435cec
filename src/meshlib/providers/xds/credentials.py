"""How a control plane is trusted and how it knows us: TLS, mutual TLS, a token file, Google's default.

Files are read anew for each stream, so that what was rotated counts from the next one on. Everything here may block.

Source: gRFCs A27, A65, A97.
"""

from __future__ import annotations

import base64
import json
import ssl
from importlib import import_module
from pathlib import Path
from typing import Any

from meshlib.clock import wall
from meshlib.errors import ConfigError
from meshlib.xds.bootstrap import Server

__all__ = ["call_metadata", "tls_context"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_EARLY = 30.0
"""Seconds before its end from which on a token is not sent any more (gRFC A97)."""

Metadata = tuple[tuple[str, str], ...]


def tls_context(server: Server) -> ssl.SSLContext | None:
    """The TLS of a server, None for plaintext.

    Raises:
        ConfigError: A file cannot be read, or holds something else.
    """
    kind, config = server.channel_credentials.type, server.channel_credentials.config
    if kind == "insecure":
        if server.call_credentials:
            raise ConfigError(f"{server.uri}: tokens are not sent without TLS")
        return None
    try:
        context = ssl.create_default_context(cafile=config.get("ca_certificate_file") or None)
        if config.get("certificate_file"):
            context.load_cert_chain(config["certificate_file"], config["private_key_file"])
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in config.values())
        raise ConfigError(f"{server.uri}: one of the files {files} cannot be used: {error}") from error
    context.set_alpn_protocols(["h2"])
    return context


def call_metadata(server: Server) -> Metadata:
    """What credentials add to a stream's headers.

    Raises:
        ConfigError: A token cannot be read, is none, is at its end, or cannot be had.
    """
    tokens = [_token(each.config.get("jwt_token_file")) for each in server.call_credentials]
    found = tuple(("authorization", f"Bearer {token}") for token in tokens)
    return (*found, *_google(server.uri)) if server.channel_credentials.type == "google_default" else found


def _token(path: Any) -> str:
    try:
        token = Path(path or "").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        claims = token.split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("exp")
    except (IndexError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} holds no JSON web token") from error
    if isinstance(ends, int | float) and ends - _EARLY <= wall():
        raise ConfigError(f"the token of {path} ends at {ends:.0f}, and it is {wall():.0f}")
    return token


def _google(target: str) -> Metadata:
    """A token of the account that Google's rules find in the environment."""
    try:
        auth, errors, requests = (
            import_module(f"google.auth{part}") for part in ("", ".exceptions", ".transport.requests")
        )
    except ImportError as error:
        raise ConfigError(f"google_default needs google-auth: pip install 'meshlib[google]' ({error})") from error
    headers: dict[str, str] = {}
    try:
        found, _ = auth.default(scopes=[_SCOPE])
        found.before_request(requests.Request(), "POST", f"https://{target}/", headers)
    except errors.GoogleAuthError as error:
        raise ConfigError(f"no Google default credentials: {error}") from error
    return tuple((name.lower(), value) for name, value in headers.items())
