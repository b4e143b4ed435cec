"""HTTP filters off the wire: the chain of a connection manager, and what routes and hosts change about it.

Source: Envoy ``HttpFilter``, ``FilterConfig``; gRFC A39. What is configured closer to the route wins: route, virtual
host, route table, chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshlib.model.policy import Fault
from meshlib.model.rbac import Rbac
from meshlib.model.route import Cors
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.policies import cors_policy, fault
from meshlib.xds.decode.rbac import rbac
from meshlib.xds.decode.values import unpack
from meshlib.xds.messages import cors_pb2, fault_pb2, http_rbac_pb2, route_components_pb2, router_pb2

__all__ = ["Filter", "HttpFilters", "http_filters", "overrides"]

Config = Fault | Cors | Rbac | None

_KINDS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        fault_pb2.HTTPFault,
        cors_pb2.Cors,
        cors_pb2.CorsPolicy,
        http_rbac_pb2.RBAC,
        http_rbac_pb2.RBACPerRoute,
        router_pb2.Router,
        route_components_pb2.FilterConfig,
    )
}


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a chain.

    Attributes:
        name: As the chain names it.
        kind: ``fault``, ``cors``, ``rbac`` or ``router``.
        config: Its own configuration; None does nothing by itself.
        disabled: It works only where a route says so.
    """

    name: str
    kind: str
    config: Config = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class HttpFilters:
    """A chain in order, the router left out.

    Attributes:
        filters: The filters.
        open: Nothing is known of the chain: what routes configure is taken as it comes, by name.
    """

    filters: tuple[Filter, ...] = ()
    open: bool = False

    def resolve(self, levels: list[dict[str, Filter]]) -> dict[str, list[Config]]:
        """Kind -> configurations in order, for a route; ``levels`` are its overrides, the closest first."""
        found: dict[str, list[Config]] = {}
        for each in self._chain(levels):
            if not each.disabled and each.config is not None:
                found.setdefault(each.kind, []).append(each.config)
        return found

    def _chain(self, levels: list[dict[str, Filter]]) -> list[Filter]:
        base = {each.name: each for each in self.filters}
        if self.open:
            names = sorted({name for level in levels for name in level}, key=lambda name: (len(name), name))
            base = {name: Filter(name, "") for name in names}
        closest = {name: next((level[name] for level in levels if name in level), None) for name in base}
        return [replace(closest[name] or own, name=name) for name, own in base.items()]


OPEN = HttpFilters(open=True)
"""For a route table whose listener is not known yet."""


def http_filters(given: Any, at: Place) -> HttpFilters:
    """The chain of an ``HttpConnectionManager``."""
    found: list[Filter] = []
    names: set[str] = set()
    for number, each in enumerate(given):
        place = at.item(number)
        if not each.name or each.name in names:
            place.field("name").error(f"{each.name!r} is empty or stands twice")
        names.add(each.name)
        read = _filter(each.name, each.typed_config, each.is_optional, place)
        if read is not None:
            found.append(replace(read, disabled=each.disabled))
    if at.is_grpc and [each.kind for each in found].count("router") != 1:
        at.error("there must be one router")
    if at.is_grpc and found and found[-1].kind != "router":
        at.error("the router must come last")
    return HttpFilters(tuple(each for each in found if each.kind != "router"))


def overrides(given: Mapping[str, Any], at: Place) -> dict[str, Filter]:
    """A level's ``typed_per_filter_config``."""
    found = {
        name: _filter(name, packed, False, at.field("typed_per_filter_config", name)) for name, packed in given.items()
    }
    return {name: each for name, each in found.items() if each is not None}


def _filter(name: str, packed: Any, optional: bool, at: Place) -> Filter | None:
    message = unpack(packed, _KINDS, at)
    if isinstance(message, route_components_pb2.FilterConfig):
        optional = optional or message.is_optional
        if message.disabled:
            return Filter(name, "", disabled=True)
        message = unpack(message.config, _KINDS, at.field("config"))
    if message is None:
        if at.is_grpc and not optional:
            at.error(f"filter {packed.TypeName() or 'without configuration'} is not known")
        at.has_no_effect()
        return None
    return _read(name, message, at)


def _read(name: str, message: Any, at: Place) -> Filter:
    if isinstance(message, fault_pb2.HTTPFault):
        found = fault(message, at)
        return Filter(name, "fault", found if found.delay is not None or found.abort is not None else None)
    if isinstance(message, cors_pb2.CorsPolicy):
        return Filter(name, "cors", cors_policy(message, at))
    if isinstance(message, http_rbac_pb2.RBACPerRoute):
        return Filter(name, "rbac", rbac(message.rbac, at.field("rbac")) if message.HasField("rbac") else None)
    if isinstance(message, http_rbac_pb2.RBAC):
        return Filter(name, "rbac", rbac(message, at))
    return Filter(name, "cors" if isinstance(message, cors_pb2.Cors) else "router")
