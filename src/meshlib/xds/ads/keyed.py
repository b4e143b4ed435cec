"""Clusters whose TLS is made of secrets: complete once these have come, and made anew when one is renewed.

Source: Envoy's SDS: a cluster warms until its secrets are there or known not to be; what has none refuses connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from meshlib.model.policy import KeyMaterial, Tls
from meshlib.xds.ads.cache import Cache
from meshlib.xds.ads.kinds import Kind
from meshlib.xds.decode.clusters import DecodedCluster
from meshlib.xds.decode.secrets import DecodedSecret

__all__ = ["Keyed", "secrets_of"]


def secrets_of(cluster: DecodedCluster, *, agent: bool) -> tuple[str, ...]:
    """Names of what is to be asked for; nothing of an agent that there is not."""
    names = cluster.secrets
    if names.by_agent and not agent:
        return ()
    return tuple(name for name in (names.certificate, names.roots) if name)


class Keyed:
    """Puts secrets into clusters.

    Args:
        cache: Where secrets are.
        agent: Whether there is an agent for the mesh's own.
    """

    def __init__(self, cache: Cache, *, agent: bool) -> None:
        self._cache = cache
        self._agent = agent
        self._made: dict[str, tuple[DecodedCluster, tuple[DecodedSecret | None, ...], DecodedCluster]] = {}

    def lacking(self, cluster: DecodedCluster) -> list[str]:
        """Secrets that are yet to come."""
        names = secrets_of(cluster, agent=self._agent)
        return [name for name in names if not self._cache.settled(Kind.SECRET, name)]

    def with_secrets(self, name: str, cluster: DecodedCluster) -> DecodedCluster:
        """The cluster with what has come; the same object while nothing of it is renewed."""
        if not secrets_of(cluster, agent=self._agent):
            return cluster
        found = tuple(self._secret(each) for each in (cluster.secrets.certificate, cluster.secrets.roots))
        known = self._made.get(name)
        if known is not None and known[0] is cluster and known[1] == found:
            return known[2]
        tls = _with_files(cluster.cluster.tls, [each for each in found if each is not None])
        missing = ", ".join(_missing(cluster, found))
        if missing:
            tls = replace(tls, refused=f"the control plane has not sent {missing}")
        made = replace(cluster, cluster=replace(cluster.cluster, tls=tls))
        self._made[name] = cluster, found, made
        return made

    def forget(self, names: Iterable[str]) -> None:
        """Clusters that are gone."""
        for name in names:
            self._made.pop(name, None)

    def _secret(self, name: str) -> DecodedSecret | None:
        entry = self._cache.get(Kind.SECRET, name) if name else None
        return entry.value if entry is not None else None


def _missing(cluster: DecodedCluster, found: tuple[DecodedSecret | None, ...]) -> Iterator[str]:
    """What nobody may be reached without."""
    shown, trusted = found
    names = cluster.secrets
    if names.certificate and (shown is None or not (shown.material.certificate or shown.files[0])):
        yield f"the certificate {names.certificate!r}"
    if names.roots and (trusted is None or not (trusted.material.roots or trusted.files[2])):
        yield f"the roots {names.roots!r}"


def _with_files(tls: Tls, secrets: Iterable[DecodedSecret]) -> Tls:
    """Texts go into the material, names of files to their places; names of the peer are added up."""
    material = tls.material or KeyMaterial()
    for each in secrets:
        sent, (chain, key, roots, revoked) = each.material, each.files
        material = KeyMaterial(
            sent.certificate or material.certificate,
            sent.private_key or material.private_key,
            sent.roots or material.roots,
            sent.revoked or material.revoked,
        )
        tls = replace(
            tls,
            client_certificate=chain or tls.client_certificate,
            private_key=key or tls.private_key,
            ca_certificates=roots or tls.ca_certificates,
            ca_crl=revoked or tls.ca_crl,
            subject_alt_names=tuple(dict.fromkeys((*tls.subject_alt_names, *each.names))),
        )
    return replace(tls, material=material)
