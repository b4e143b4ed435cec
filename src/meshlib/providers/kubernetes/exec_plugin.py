"""Tokens from the command that a kubeconfig names, as ``aws``, ``gke-gcloud-auth-plugin`` and ``kubelogin`` give them.

They are run anew before a token ends, and when the server refuses it.

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
from typing import TYPE_CHECKING, Any

from meshlib.clock import wall
from meshlib.providers.kubernetes.failures import Failure, RequestFailed

if TYPE_CHECKING:
    from lightkube.config.models import UserExec

__all__ = ["ExecPlugin", "expiry", "token_of"]

_LONGEST = 60.0
"""Seconds that a command may take."""
_EARLY = 30.0
"""Seconds before its end at which a token is taken for expired."""


class ExecPlugin:
    """Runs the command at the first request, when its token is about to end, and after a 401; once for all requests.

    Args:
        command: Of the kubeconfig.
    """

    def __init__(self, command: UserExec) -> None:
        self._command = command
        self._lock = asyncio.Lock()
        self._value, self._ends = "", 0.0

    async def authorization(self, refused: str = "") -> str:
        """See ``Credentials``: another token than the one that was refused, if the command has it."""
        async with self._lock:
            if not self._value or self._value == refused or wall() > self._ends - _EARLY:
                token, self._ends = token_of(await self._run())
                self._value = f"Bearer {token}"
            return self._value

    async def _run(self) -> bytes:
        command = self._command
        info = {"apiVersion": command.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
        given = {each.name: each.value for each in command.env or ()}
        environment = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        process = _Process([command.command, *(command.args or ())], environment)
        try:
            code, told, complaint = await asyncio.to_thread(process.run)
        except OSError as error:
            hint = f"; {command.installHint.strip()}" if command.installHint else ""
            raise RequestFailed(Failure(f"credentials: {command.command}: {error.strerror or error}{hint}")) from None
        except subprocess.TimeoutExpired:
            raise RequestFailed(Failure(f"credentials: {command.command} took longer than {_LONGEST:g} s")) from None
        finally:
            process.end()
        if code:
            text = " ".join(complaint.decode("utf-8", "replace").split())[:300]
            raise RequestFailed(Failure(f"credentials: {command.command} ended with {code}: {text}"))
        return told


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


def token_of(raw: bytes) -> tuple[str, float]:
    """The token of an ``ExecCredential``, and the Unix second at which it ends.

    Raises:
        RequestFailed: There is none.
    """
    try:
        status = json.loads(raw)["status"]
        token, ends = status["token"], status.get("expirationTimestamp")
    except (ValueError, KeyError, TypeError, AttributeError):
        token, ends = None, None
    if not isinstance(token, str) or not token:
        raise RequestFailed(
            Failure("credentials: the command gave no token; client certificates are not taken from it")
        )
    return token, expiry(ends)


def expiry(given: Any) -> float:
    """Unix seconds of an RFC 3339 time; never for none."""
    try:
        return datetime.fromisoformat(given).timestamp()
    except (TypeError, ValueError):
        return float("inf")
