"""The ingress gateway that files rarely hold and Gateways rely on.

Source: Istio ``pkg/config/analysis/local/istiod_analyze.go`` (``AddDefaultResources``): added where only files are
analyzed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.config.resources.load import load_text

__all__ = ["with_defaults"]

_NAME = "istio-ingressgateway"
_YAML = """
apiVersion: v1
kind: Pod
metadata:
  {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway, app: istio-ingressgateway}}
spec: {containers: [{name: istio-proxy}]}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec:
  selector: {istio: ingressgateway}
  ports:
  - {name: http2, port: 80}
  - {name: https, port: 443}
  - {name: tcp, port: 31400}
  - {name: tls, port: 15443}
"""


def with_defaults(resources: Sequence[Resource[Any]]) -> list[Resource[Any]]:
    """The objects, and the default gateway where none of the kind has its name."""
    given = {(each.kind, each.metadata.name) for each in resources}
    return [*resources, *(each for each in load_text(_YAML, _NAME).resources if (each.kind, _NAME) not in given)]
