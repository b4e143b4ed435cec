"""The configuration of ``grpc_channels.py`` once more, as grpcio's own ``xds:///`` channels read it.

A control plane in a process of its own serves the same service, rules and endpoint: the rule for another method first,
then a timeout of 30 s and two retries; outlier detection armed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from tests.xds.planes import ControlPlane
from tests.xds.resources import api_listener, cluster, endpoints, table

__all__ = ["served"]


@contextlib.contextmanager
def served(host: str, port: int) -> Iterator[str]:
    """Serve ``host`` with one endpoint at ``port``; the target for grpcio, whose bootstrap is in the environment."""
    name = f"outbound|80||{host}"
    target = f"{host}:80"
    with ControlPlane() as plane:
        plane.serve(_watched(cluster(name)), endpoints(name, port), api_listener(target, target), _rules(target, name))
        os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(plane.bootstrap(id="benchmark"))
        yield f"xds:///{target}"


def _watched(made: Any) -> Any:
    made.outlier_detection.consecutive_5xx.value = 5
    return made


def _rules(target: str, name: str) -> Any:
    made = table(target, {target: name})
    host = made.virtual_hosts[0]
    rule = host.routes[0]
    rule.route.timeout.FromSeconds(30)
    rule.route.max_stream_duration.max_stream_duration.FromSeconds(30)
    rule.route.retry_policy.retry_on = "cancelled,unavailable"
    rule.route.retry_policy.num_retries.value = 2
    other = type(rule)(name="other")
    other.match.prefix = "/none"
    other.route.cluster = name
    rules = [other, type(rule).FromString(rule.SerializeToString())]
    del host.routes[:]
    host.routes.extend(rules)
    return made
