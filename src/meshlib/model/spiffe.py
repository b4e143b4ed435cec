"""Identities of workloads: ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``.

Source: Istio ``pkg/spiffe``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["SCHEME", "Identity", "expand_trust_domains", "parse_identity", "spiffe_uri"]

SCHEME = "spiffe://"


class Identity(NamedTuple):
    """The parts of a workload's SPIFFE id."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        """The URI."""
        return f"{SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def spiffe_uri(trust_domain: str, namespace: str, service_account: str) -> str:
    """The URI of a service account; ``@`` in a trust domain (of some clouds) becomes a dot.

    Raises:
        ValueError: Namespace or service account is empty.
    """
    if not namespace or not service_account:
        raise ValueError(f"namespace {namespace!r} or service account {service_account!r} is empty")
    return str(Identity(trust_domain.replace("@", "."), namespace, service_account))


def parse_identity(uri: str) -> Identity | None:
    """The parts of a workload's SPIFFE id; None for anything else."""
    parts = uri.removeprefix(SCHEME).split("/")
    if not uri.startswith(SCHEME) or len(parts) != 5 or (parts[1], parts[3]) != ("ns", "sa"):
        return None
    return Identity(parts[0], parts[2], parts[4])


def expand_trust_domains(identities: Iterable[str], aliases: Iterable[str]) -> tuple[str, ...]:
    """``identities``, each SPIFFE id also under every trust domain of ``aliases``; sorted, without duplicates."""
    found = set(identities)
    aliases = tuple(aliases)
    for identity in tuple(found):
        domain, slash, rest = identity.removeprefix(SCHEME).partition("/")
        if identity.startswith(SCHEME) and domain and slash:
            found.update(f"{SCHEME}{alias}/{rest}" for alias in aliases)
    return tuple(sorted(found))
