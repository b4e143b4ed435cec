"""What is said of a field is true: unmarked fields are read and acted upon, marked ones are not."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import meshlib.model
from meshlib.config.resources import virtual_service as api
from meshlib.config.resources.kinds import KINDS
from meshlib.config.resources.matrix import markdown
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.sidecar import SidecarPort
from meshlib.config.resources.support import Carried, Field, Ignored, ServerSide, fields_of
from meshlib.model.policy import CircuitBreaker
from tests.meta.field_reads import SPECS, Reads, modules, reads_of

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
TELLING = ("meshlib.config.resources", "meshlib.config.validation", "meshlib.config.analyze", "meshlib.cli")
"""Modules that look at objects to read, check or show them: what they read has no effect on a call."""
KEEPING = "meshlib.config.resources.kubernetes"
"""Reads of a slice's endpoints what is kept of them, for the code that acts."""
AWAY = ("meshlib.config", "meshlib.model", "meshlib.cli", "meshlib.xds", "meshlib.dataplane.explain")
"""Modules that make, carry or show the model: what they read of it has no effect on a call."""
NOT_FOR_CALLS = {
    "what explain, problems and metrics tell": "problem.Problem route.RouteOrigin route.SkippedRule tcp "
    "route.VirtualHost.service route.VirtualHost.skipped cluster.Cluster.origins cluster.Cluster.external "
    "cluster.Cluster.port",
    "what compiling needs, and has put elsewhere by then": "snapshot.Client endpoint.Endpoint.labels "
    "endpoint.Endpoint.locality endpoint.Endpoint.network endpoint.Endpoint.hostname policy.LoadBalancer.hash_keys "
    "policy.Tls.verify_host policy.Tls.refused cluster.Cluster.client_policy",
    "what looking names up obeys, before any call": "cluster.Cluster.dns_refresh",
    "what a server asks of its callers": "rbac",
    "what only xDS can say": "domains.RouteTable policy.OutlierDetection.success_rate "
    "policy.OutlierDetection.failure_percentage policy.SuccessRate policy.FailurePercentage "
    "route.Forward.max_stream_duration route.Forward.grpc_timeout_max",
}
"""Values of the model that the data plane need not read. Whatever else it does not read, a field asks for in vain."""
WRITE = "run python -m meshlib.config.resources.matrix > docs/support.md"


@cache
def reads() -> Reads:
    return reads_of([*modules(without=TELLING), KEEPING])


@cache
def acted_upon() -> Reads:
    return reads_of(modules(without=AWAY))


def messages() -> list[type[BaseModel]]:
    """Every message that stands below a kind and below no mark."""
    found: dict[type[BaseModel], None] = {}
    for root in (*(kind.spec for kind in KINDS.values() if kind.support is None), MeshConfig):
        _collect(root, found)
    return list(found)


def _collect(message: type[BaseModel], found: dict[type[BaseModel], None]) -> None:
    if message not in found:
        found[message] = None
        for field in fields_of(message):
            if field.mark is None or field.mark.values:
                for below in field.below:
                    _collect(below, found)


FIELDS = [(message, field) for message in messages() for field in fields_of(message)]


def _is_read(message: type[BaseModel], field: Field) -> bool:
    """A field counts where it is read of the message, or of one that the message extends."""
    pairs = {(each, field.name) for each in message.__mro__}
    return bool(pairs & (reads().exact | reads().loose)) or (message in SPECS and field.name in reads().names)


def test_every_unmarked_field_is_read_by_the_code_that_acts():
    unread = [
        f"{message.__name__}.{field.name}"
        for message, field in FIELDS
        if not isinstance(field.mark, Ignored | ServerSide) and not _is_read(message, field)
    ]
    assert not unread, f"nothing reads these fields: compile them, or mark them (config/resources/support.py): {unread}"


def test_no_field_that_is_marked_as_ignored_is_read():
    read = [
        f"{message.__name__}.{field.name}"
        for message, field in FIELDS
        if isinstance(field.mark, Ignored | ServerSide)
        and not isinstance(field.mark, Carried)
        and (message, field.name) in reads().exact
    ]
    assert not read, f"these fields are read: drop their marks, or say Approximated or Carried: {read}"


def test_types_are_followed_so_that_equal_names_are_told_apart():
    assert (api.HTTPMatchRequest, "name") in reads().exact
    assert (SidecarPort, "name") not in reads().exact | reads().loose
    assert (api.HTTPMirrorPolicy, "percentage") in reads().exact
    assert (CircuitBreaker, "max_requests") in acted_upon().plain


# What compiling makes of it ------------------------------------------------------------------------------------------


def carried() -> dict[str, str]:
    """Value of the model -> the field whose mark says that it is carried there in vain."""
    return {
        field.mark.into: f"{message.__name__}.{field.name}"
        for message, field in FIELDS
        if isinstance(field.mark, Carried)
    }


@cache
def values() -> dict[str, tuple[type, str]]:
    """Every value of the model, by its name: module or folder of the model, class, field."""
    found: dict[str, tuple[type, str]] = {}
    for module in pkgutil.iter_modules(meshlib.model.__path__):
        for name, each in vars(importlib.import_module(f"meshlib.model.{module.name}")).items():
            if isinstance(each, type) and is_dataclass(each) and module.name in each.__module__.split(".")[2:]:
                found.update({f"{module.name}.{name}.{field.name}": (each, field.name) for field in fields(each)})
    return found


def test_a_field_that_is_carried_is_compiled_into_a_value_that_no_call_obeys():
    for message, field in FIELDS:
        if isinstance(field.mark, Carried):
            name = f"{message.__name__}.{field.name}"
            assert _is_read(message, field), f"{name} is not compiled: it is Ignored"
            assert field.mark.into in values(), f"{name}: the model has no {field.mark.into}"
            acted = values()[field.mark.into] in acted_upon().plain
            assert not acted, f"{field.mark.into} is read by the data plane: drop the mark of {name}"


def test_whatever_of_the_model_no_call_obeys_is_said_of_some_field():
    excused = tuple(f"{name}." for line in NOT_FOR_CALLS.values() for name in line.split())
    vain = tuple(f"{name}." for name in carried())
    dropped = [
        name
        for name, (owner, field) in values().items()
        if (owner, field) not in acted_upon().plain
        and field not in acted_upon().names
        and not f"{name}.".startswith(excused + vain)
        and not _stands_below(owner, vain)
    ]
    assert not dropped, f"compiled, and read by no call: obey them, or mark their fields as Carried: {dropped}"


def _stands_below(owner: type, vain: tuple[str, ...], seen: frozenset[type] = frozenset()) -> bool:
    """Whether values of a class stand only in values that are carried in vain; those of its own kind do not count."""
    word, seen = re.compile(rf"\b{owner.__name__}\b"), seen | {owner}
    holders = [
        (name, each)
        for name, (each, field) in values().items()
        if each not in seen and word.search(str(each.__annotations__[field]))
    ]
    return bool(holders) and all(
        f"{name}.".startswith(vain) or _stands_below(each, vain, seen) for name, each in holders
    )


# The page ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for (_, name), kind in KINDS.items() if kind.support is not None))
def test_a_kind_that_is_not_acted_upon_is_not_read(name):
    specs = {kind.spec for (_, each), kind in KINDS.items() if each == name and kind.support is not None}
    read = [field for message, field in reads().exact if message in specs]
    assert not read, f"{name} is read ({read}): drop its mark in config/resources/kinds.py, and mark its fields"


def test_every_mark_gives_a_reason():
    for message, field in FIELDS:
        if field.mark is not None:
            assert field.mark.note.strip(), f"{message.__name__}.{field.name}"


def test_the_support_page_is_what_the_code_says():
    assert PAGE.read_text("utf-8") == markdown(), WRITE
