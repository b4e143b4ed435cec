"""State of the world: each request lists all names of a type, each answer of listeners and clusters holds all there is.

Source: gRFC A27, A46; Envoy's xDS protocol page. A version is opaque and the last one acknowledged, also over streams;
a refusal repeats it, and what was good in the same answer counts all the same.
"""

from __future__ import annotations

from typing import Any

from meshlib.xds.ads.kinds import EVERYTHING, Kind
from meshlib.xds.ads.session import Good, Refused, Session, error_detail
from meshlib.xds.decode.findings import InvalidResource
from meshlib.xds.messages import discovery_pb2

__all__ = ["AgentSecrets", "StateOfTheWorld"]


class StateOfTheWorld(Session):
    """A session over ``StreamAggregatedResources``."""

    METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    ANSWER = discovery_pb2.DiscoveryResponse

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._versions: dict[Kind, str] = {}
        self._nonces: dict[Kind, str] = {}
        self._listed: dict[Kind, tuple[frozenset[str], list[str]]] = {}

    def open(self, now: float) -> None:
        """See ``Session.open``."""
        self._nonces.clear()
        super().open(now)

    def _begin(self, kind: Kind) -> None:
        self._send(kind)

    def _change(self, kind: Kind, before: frozenset[str], names: frozenset[str]) -> None:
        if before or names:
            self._send(kind)

    def _send(self, kind: Kind, error: Any = None) -> None:
        """All that is wanted of a type; an empty list asks for everything at first, and for nothing afterwards."""
        made = discovery_pb2.DiscoveryRequest(
            type_url=kind.url,
            version_info=self._versions.get(kind, ""),
            response_nonce=self._nonces.get(kind, ""),
            resource_names=self._list(kind),
            error_detail=error,
        )
        self.outbox.append(self._introduce(made))

    def _list(self, kind: Kind) -> list[str]:
        """The names in order, made once as long as they are the same: each acknowledgement lists them all."""
        names = self._wanted[kind]
        if kind not in self._listed or self._listed[kind][0] is not names:
            self._listed[kind] = names, [] if names == {EVERYTHING} else sorted(names)
        return self._listed[kind][1]

    def receive(self, answer: Any, now: float) -> None:
        """See ``Session.receive``."""
        kind = Kind.of(answer.type_url)
        if kind is None:
            return
        self.answered, self.version = True, answer.version_info
        self.control_plane = answer.control_plane.identifier or self.control_plane
        self._nonces[kind] = answer.nonce
        good, refused = self._sorted(kind, answer)
        self._absent(kind, good, refused, now)
        for each in good.values():
            self._take(kind, each, now)
        self._refuse(kind, {name: why for _, name, why in refused}, answer.version_info, now)
        self._hear_errors(kind, answer.resource_errors, now)
        if refused:
            self._send(kind, error_detail(kind, refused, len(answer.resources)))
        else:
            self._versions[kind] = answer.version_info
            self._send(kind)

    def _sorted(self, kind: Kind, answer: Any) -> tuple[dict[str, Good], list[tuple[int, str, str]]]:
        """The good resources of an answer by name, and the bad ones with their places."""
        good: dict[str, Good] = {}
        refused: list[tuple[int, str, str]] = []
        seen: set[str] = set()
        for number, packed in enumerate(answer.resources):
            try:
                name, found = self._read(kind, packed, answer.version_info)
            except Refused as error:
                refused.append((number, error.name, error.why))
                seen.add(error.name)
                continue
            except InvalidResource as error:
                refused.append((number, "", str(error)))
                continue
            if name in seen:
                refused.append((number, name, "stands twice in one answer"))
            elif found is not None:
                good[name] = found
            seen.add(name)
        return good, refused

    def _absent(self, kind: Kind, good: dict[str, Good], refused: list[tuple[int, str, str]], now: float) -> None:
        """What is not in a whole answer does not exist any more, unless there is reason to doubt it."""
        if not kind.whole:
            return
        first = (kind, EVERYTHING) not in self._heard
        self._heard.add((kind, EVERYTHING))
        self._timers.pop((kind, EVERYTHING), None)
        there = {*good, *(name for _, name, _ in refused)}
        absent = [name for name, _ in self.cache.with_values(kind) if name not in there and self._wants(kind, name)]
        if absent and not there and first and self.rules.hold:
            self._hold(kind, absent, now)
            return
        self._held.pop((kind, EVERYTHING), None)
        self._held_gone.pop(kind, None)
        if any(not name for _, name, _ in refused):
            return  # one of those that could not be read may be it
        for name in absent:
            self._gone(kind, name, now)


class AgentSecrets(StateOfTheWorld):
    """The same about secrets alone, with an agent on the machine (SDS)."""

    METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
