"""Who we are to the API server, asked anew when the server refused it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Protocol

from meshlib.errors import ConfigError
from meshlib.providers.kubernetes.certificates import Shown
from meshlib.providers.kubernetes.failures import Failure, RequestFailed
from meshlib.providers.kubernetes.kubeconfig import Access

__all__ = ["Credential", "Credentials", "credentials_of"]

_AGAIN = 60.0
"""Seconds after which a token file is read again; Kubernetes renews tokens well before they end."""


class Credential(NamedTuple):
    """What is shown to the server.

    Attributes:
        authorization: The header's value, ``""`` for none.
        certificate: To be shown in the handshake, beside what the kubeconfig says.
    """

    authorization: str = ""
    certificate: Shown | None = None


class Credentials(Protocol):
    """Gives them."""

    async def current(self, refused: Credential | None = None) -> Credential:
        """What to show; something fresh when the server has just refused ``refused``.

        Raises:
            RequestFailed: There is none to be had.
        """
        ...


class Fixed:
    """A token, a password or nothing, as it stands in the kubeconfig."""

    def __init__(self, authorization: str) -> None:
        self._value = Credential(authorization)

    async def current(self, refused: Credential | None = None) -> Credential:
        """See ``Credentials``."""
        return self._value


class TokenFile:
    """A token that somebody else renews, as the kubelet does for service accounts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._value: Credential | None = None
        self._read_at = 0.0

    async def current(self, refused: Credential | None = None) -> Credential:
        """See ``Credentials``."""
        if self._value is None or self._value == refused or monotonic() - self._read_at > _AGAIN:
            try:
                token = await asyncio.to_thread(Path(self._path).read_text, "utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise RequestFailed(Failure(f"credentials: {self._path}: {error}")) from None
            self._value, self._read_at = Credential(f"Bearer {token.strip()}"), monotonic()
        return self._value


def credentials_of(access: Access) -> Credentials:
    """Those that a kubeconfig names for its user.

    Raises:
        ConfigError: It names a kind that Kubernetes itself has given up (``auth-provider``).
    """
    from meshlib.providers.kubernetes.exec_plugin import ExecPlugin

    user = access.user
    if user.token_file:
        return TokenFile(user.token_file)
    if user.token:
        return Fixed(f"Bearer {user.token}")
    if user.username:
        return Fixed("Basic " + base64.b64encode(f"{user.username}:{user.password}".encode()).decode("ascii"))
    if user.exec is not None:
        return ExecPlugin(user.exec, access.cluster)
    if user.auth_provider:
        raise ConfigError("the kubeconfig names an auth-provider, which Kubernetes has given up: use an exec command")
    return Fixed("")
