"""Key material from memory for OpenSSL, which reads certificates with keys, and revocation lists, from files only.

A memory file (Linux) has no name that others could open, and is gone with the block; elsewhere a file that only the
owner can read stands in for it, for as long as it is being read.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["load_certificate", "load_revoked", "load_roots"]


def load_certificate(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Have ``context`` show this certificate; both are PEM, the chain with the leaf first.

    Raises:
        ssl.SSLError: Either is broken, or the key is another certificate's.
        OSError: No file can be made.
    """
    with _file(chain) as certificate, _file(key) as private:
        context.load_cert_chain(certificate, private, _no_password)


def load_roots(context: ssl.SSLContext, roots: bytes) -> None:
    """Have ``context`` trust these, in PEM.

    Raises:
        ssl.SSLError: They are no certificates.
    """
    context.load_verify_locations(cadata=roots.decode("latin-1"))


def load_revoked(context: ssl.SSLContext, revoked: bytes) -> None:
    """Have ``context`` take no certificate of these lists, in PEM.

    Raises:
        ssl.SSLError: They are no lists.
        OSError: No file can be made.
    """
    with _file(revoked) as path:
        context.load_verify_locations(cafile=path)


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ssl.SSLError("the private key is encrypted")


@contextmanager
def _file(contents: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        number, path = os.memfd_create("pem"), ""
    else:  # pragma: no cover - not on Linux
        number, path = tempfile.mkstemp(suffix=".pem")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(contents)
        yield path or f"/proc/self/fd/{number}"
    finally:
        os.close(number)
        if path:  # pragma: no cover - not on Linux
            Path(path).unlink()
