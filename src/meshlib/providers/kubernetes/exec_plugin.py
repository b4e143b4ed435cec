"""Tokens and certificates from the command that a kubeconfig names, as ``aws``, ``gke-gcloud-auth-plugin`` and
``kubelogin`` give them.

It is run anew before they end, and when the server refuses them.

Source: Kubernetes ``client.authentication.k8s.io`` v1 and v1beta1 (``ExecCredential``).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from meshlib.clock import wall
from meshlib.providers.kubernetes.certificates import Shown
from meshlib.providers.kubernetes.credentials import Credential
from meshlib.providers.kubernetes.failures import Failure, RequestFailed
from meshlib.providers.kubernetes.kubeconfig import Cluster, Exec

__all__ = ["ExecPlugin", "credential_of", "expiry"]

_LONGEST = 60.0
"""Seconds that a command may take."""
_EARLY = 30.0
"""Seconds before its end at which a token is taken for expired."""


class ExecPlugin:
    """Runs the command at the first request, when its token is about to end, and after a 401; once for all requests.

    Args:
        command: Of the kubeconfig.
        cluster: What the command is told of, where it wants to know.
    """

    def __init__(self, command: Exec, cluster: Cluster) -> None:
        self._command, self._cluster = command, cluster
        self._lock = asyncio.Lock()
        self._value: Credential | None = None
        self._ends = 0.0

    async def current(self, refused: Credential | None = None) -> Credential:
        """See ``Credentials``: another one than was refused, if the command has it."""
        async with self._lock:
            if self._value is None or self._value == refused or wall() > self._ends - _EARLY:
                self._value, self._ends = credential_of(await self._run())
            return self._value

    async def _run(self) -> bytes:
        command = self._command
        given = {each.name: each.value for each in command.env or ()}
        environment = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(self._info())}
        process = _Process([command.command, *(command.args or ())], environment)
        try:
            code, told, complaint = await asyncio.to_thread(process.run)
        except OSError as error:
            hint = f"; {command.install_hint.strip()}" if command.install_hint else ""
            raise RequestFailed(Failure(f"credentials: {command.command}: {error.strerror or error}{hint}")) from None
        except subprocess.TimeoutExpired:
            raise RequestFailed(Failure(f"credentials: {command.command} took longer than {_LONGEST:g} s")) from None
        finally:
            process.end()
        if code:
            text = " ".join(complaint.decode("utf-8", "replace").split())[:300]
            raise RequestFailed(Failure(f"credentials: {command.command} ended with {code}: {text}"))
        return told

    def _info(self) -> dict[str, Any]:
        """What the command is told, as an ``ExecCredential``."""
        spec: dict[str, Any] = {"interactive": False}
        if self._command.provide_cluster_info:
            fields = "server", "tls_server_name", "insecure_skip_tls_verify", "certificate_authority_data"
            known = self._cluster.model_dump(by_alias=True, include=set(fields), exclude_defaults=True)
            spec["cluster"] = {"server": self._cluster.server, **known}
        return {"apiVersion": self._command.api_version, "kind": "ExecCredential", "spec": spec}


class _Process:
    """A command that is run in a thread, and ended from another when nobody waits for it any more."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False

    def run(self) -> tuple[int, bytes, bytes]:
        """Its exit status, output and complaints.

        Raises:
            OSError: It cannot be started.
            subprocess.TimeoutExpired: It takes too long.
        """
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        with self._lock:
            if self._over:
                return -1, b"", b""
            self._process = process = subprocess.Popen(  # noqa: S603 - the kubeconfig says what to run
                self._command, env=self._environment, stdin=nothing, stdout=pipe, stderr=pipe
            )
        with process:
            try:
                told, complaint = process.communicate(timeout=_LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, told, complaint

    def end(self) -> None:
        """Have it end now, unless it has."""
        with self._lock:
            self._over = True
            if self._process is not None and self._process.poll() is None:
                self._process.kill()


def credential_of(raw: bytes) -> tuple[Credential, float]:
    """What an ``ExecCredential`` holds, and the Unix second at which it ends.

    Raises:
        RequestFailed: There is neither a token nor a certificate with its key.
    """
    try:
        status = json.loads(raw)["status"]
        token, ends = status.get("token"), status.get("expirationTimestamp")
        pair = status.get("clientCertificateData"), status.get("clientKeyData")
    except (ValueError, KeyError, TypeError, AttributeError):
        token, ends, pair = None, None, (None, None)
    certificate = _shown(*pair)
    if not (isinstance(token, str) and token) and certificate is None:
        raise RequestFailed(Failure("credentials: the command gave no token, nor a certificate with its key"))
    return Credential(f"Bearer {token}" if isinstance(token, str) and token else "", certificate), expiry(ends)


def _shown(certificate: Any, key: Any) -> Shown | None:
    if not (isinstance(certificate, str) and isinstance(key, str) and certificate and key):
        return None
    return certificate.encode(), key.encode()


def expiry(given: Any) -> float:
    """Unix seconds of an RFC 3339 time; never for none."""
    try:
        return datetime.fromisoformat(given).timestamp()
    except (TypeError, ValueError):
        return float("inf")
