"""Who we are to the API server, as the ``Authorization`` header; asked anew when the server refused it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from meshlib.errors import ConfigError
from meshlib.providers.kubernetes.exec_plugin import ExecPlugin
from meshlib.providers.kubernetes.failures import Failure, RequestFailed

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

__all__ = ["Credentials", "credentials_of"]

_AGAIN = 60.0
"""Seconds after which a token file is read again; Kubernetes renews tokens well before they end."""


class Credentials(Protocol):
    """Gives the header's value."""

    async def authorization(self, refused: str = "") -> str:
        """The value, ``""`` for none; a fresh one when the server has just refused ``refused``.

        Raises:
            RequestFailed: There is none to be had.
        """
        ...


class Fixed:
    """A token, a password or nothing, as it stands in the kubeconfig."""

    def __init__(self, value: str) -> None:
        self._value = value

    async def authorization(self, refused: str = "") -> str:
        """See ``Credentials``."""
        return self._value


class TokenFile:
    """A token that somebody else renews, as the kubelet does for service accounts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._value, self._read_at = "", 0.0

    async def authorization(self, refused: str = "") -> str:
        """See ``Credentials``."""
        if not self._value or self._value == refused or monotonic() - self._read_at > _AGAIN:
            try:
                token = await asyncio.to_thread(Path(self._path).read_text, "utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise RequestFailed(Failure(f"credentials: {self._path}: {error}")) from None
            self._value, self._read_at = f"Bearer {token.strip()}", monotonic()
        return self._value


def credentials_of(config: SingleConfig) -> Credentials:
    """Those that a kubeconfig names for its user.

    Raises:
        ConfigError: It names a kind that Kubernetes itself has given up (``auth-provider``).
    """
    user = config.user
    if user is None:
        return Fixed("")
    if user.token_file:
        return TokenFile(str(config.abs_file(user.token_file)))
    if user.token:
        return Fixed(f"Bearer {user.token}")
    if user.exec is not None:
        return ExecPlugin(user.exec)
    if user.username and user.password is not None:
        return Fixed("Basic " + base64.b64encode(f"{user.username}:{user.password}".encode()).decode("ascii"))
    if user.auth_provider:
        raise ConfigError("the kubeconfig names an auth-provider, which Kubernetes has given up: use an exec command")
    return Fixed("")
