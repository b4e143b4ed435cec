"""Incremental: requests tell what is wanted more or less, answers what changed and what is gone.

Source: Envoy's xDS protocol page. Nothing of a stream outlives it on the server's side, so the first request of each
type says what is here; a nonce stands only in a request that acknowledges or refuses.
"""

from __future__ import annotations

from typing import Any

from meshlib.xds.ads.kinds import EVERYTHING, Kind
from meshlib.xds.ads.session import Good, Refused, Session, error_detail
from meshlib.xds.decode.findings import InvalidResource
from meshlib.xds.messages import discovery_pb2
from meshlib.xds.names import canonical

__all__ = ["Delta"]


class Delta(Session):
    """A session over ``DeltaAggregatedResources``."""

    METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    ANSWER = discovery_pb2.DeltaDiscoveryResponse

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._versions: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}

    def _begin(self, kind: Kind) -> None:
        """All of a type is asked for by naming nothing at all; beside other names it has to be named."""
        names = self._wanted[kind]
        known = {name: at for name, at in self._versions[kind].items() if self.cache.has_value(kind, name)}
        self._versions[kind] = known
        self._send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind.url,
                resource_names_subscribe=() if names == {EVERYTHING} else sorted(names),
                initial_resource_versions={name: at for name, at in known.items() if self._wants(kind, name)},
            )
        )

    def _change(self, kind: Kind, before: frozenset[str], names: frozenset[str]) -> None:
        for name in before - names:
            self._versions[kind].pop(name, None)
        self._send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind.url,
                resource_names_subscribe=sorted(names - before),
                resource_names_unsubscribe=sorted(before - names),
            )
        )

    def _send(self, request: Any) -> None:
        self.outbox.append(self._introduce(request))

    def receive(self, answer: Any, now: float) -> None:
        """See ``Session.receive``."""
        kind = Kind.of(answer.type_url)
        if kind is None:
            return
        self.answered, self.version = True, answer.system_version_info
        self.control_plane = answer.control_plane.identifier or self.control_plane
        good, refused = self._sorted(kind, answer)
        self._removed(kind, answer, bool(good or refused), now)
        for each in good.values():
            self._versions[kind][each.name] = each.version
            self._take(kind, each, now)
        self._refuse(kind, {name: why for _, name, why in refused}, answer.system_version_info, now)
        self._hear_errors(kind, answer.resource_errors, now)
        error = error_detail(kind, refused, len(answer.resources)) if refused else None
        self._send(
            discovery_pb2.DeltaDiscoveryRequest(type_url=kind.url, response_nonce=answer.nonce, error_detail=error)
        )

    def _sorted(self, kind: Kind, answer: Any) -> tuple[dict[str, Good], list[tuple[int, str, str]]]:
        good: dict[str, Good] = {}
        refused: list[tuple[int, str, str]] = []
        for number, wrapper in enumerate(answer.resources):
            if not wrapper.HasField("resource"):
                continue  # a heartbeat
            name = canonical(wrapper.name)
            try:
                _, found = self._read(kind, wrapper.resource, wrapper.version, name)
            except InvalidResource as error:
                refused.append((number, name, error.why if isinstance(error, Refused) else str(error)))
                continue
            if name in good:
                refused.append((number, name, "stands twice in one answer"))
            elif found is not None:
                good[name] = found
        return good, refused

    def _removed(self, kind: Kind, answer: Any, brings: bool, now: float) -> None:
        first = (kind, EVERYTHING) not in self._heard
        self._heard.add((kind, EVERYTHING))
        self._timers.pop((kind, EVERYTHING), None)
        gone = [name for each in answer.removed_resources if self._wants(kind, name := canonical(each))]
        left = {name for name, _ in self.cache.with_values(kind)}.difference(gone)
        taken = [name for name in gone if self.cache.has_value(kind, name)]
        if kind.whole and taken and first and not left and not brings and self.rules.hold:
            self._hold(kind, taken, now)
            return
        for name in gone:
            self._versions[kind].pop(name, None)
            if kind.whole or not self.cache.has_value(kind, name):
                self._gone(kind, name, now)
